//! What this machine has: every adapter of every graphics API, and why some of them are not taken.

use crate::device::{cpu_model, cpu_threads, memory_total_bytes};
use bps_types::policy::DeviceKind;
use burn::tensor::read_sync;
use burn::tensor::wgpu::WgpuBackend;
use serde::Serialize;
use std::sync::{Mutex, OnceLock};

/// Graphics APIs in order of preference: where two reach the same GPU, the first is taken.
const APIS: [(wgpu::Backend, WgpuBackend); 4] = [
    (wgpu::Backend::Vulkan, WgpuBackend::Vulkan),
    (wgpu::Backend::Metal, WgpuBackend::Metal),
    (wgpu::Backend::Dx12, WgpuBackend::Dx12),
    (wgpu::Backend::Gl, WgpuBackend::Gl),
];

/// Instances of graphics APIs must not come and go on several threads at once: the Vulkan loader crashes.
pub(crate) static GRAPHICS: Mutex<()> = Mutex::new(());

/// Something that could execute models, and whether bps takes it.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterInfo {
    /// The hardware's name.
    pub name: String,
    /// The API that reaches it.
    pub backend: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Driver and version.
    pub driver: String,
    /// Its memory; none where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// What to give `--device` to have it; none if it cannot be had.
    pub taken_as: Option<String>,
    /// Why `auto` leaves it out.
    pub not_taken: Option<String>,
}

/// An adapter and how Burn selects it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) info: AdapterInfo,
    pub(crate) api: WgpuBackend,
    pub(crate) selector: Option<burn::tensor::DeviceKind>,
    vendor: u32,
    device: u32,
}

/// Everything this machine has, the processor first. The graphics APIs are asked once per process.
pub fn adapters() -> Vec<AdapterInfo> {
    let cpu = AdapterInfo {
        name: cpu_model(),
        backend: "native".into(),
        kind: DeviceKind::Cpu,
        driver: format!("{} threads", cpu_threads()),
        memory_bytes: memory_total_bytes(),
        taken_as: Some("cpu".into()),
        not_taken: None,
    };
    std::iter::once(cpu).chain(found().iter().map(|f| f.info.clone())).collect()
}

/// The graphics adapters, each with the name it is taken by.
pub(crate) fn found() -> &'static [Found] {
    static FOUND: OnceLock<Vec<Found>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let _guard = GRAPHICS.lock();
        let mut all = Vec::new();
        for (backend, api) in APIS {
            let compiled_in = wgpu::Instance::enabled_backend_features().contains(backend.into());
            if compiled_in && !(backend == wgpu::Backend::Gl && skips_gl(&all)) {
                let adapters = enumerate(backend, api);
                name_new_ones(&mut all, adapters);
            }
        }
        all
    })
}

/// OpenGL is the last resort: it is not asked where another API has a GPU, nor, where one has a software rasteriser, for
/// another of these. Its libraries complain on standard error where there is no display, and their destructors have been
/// seen to meet threads that were ending when the program did.
fn skips_gl(found: &[Found]) -> bool {
    let is = |kind| found.iter().any(|f| f.info.kind == kind && f.info.taken_as.is_some());
    is(DeviceKind::Gpu) || (is(DeviceKind::Software) && !may_have_gpu())
}

/// Whether the kernel shows anything that could be a GPU. Only Linux is asked; elsewhere there may always be one.
fn may_have_gpu() -> bool {
    const NODES: [&str; 6] =
        ["/dev/dri", "/dev/nvidia0", "/dev/nvhost-gpu", "/dev/mali0", "/dev/kgsl-3d0", "/dev/galcore"];
    !cfg!(target_os = "linux") || NODES.iter().any(|node| std::path::Path::new(node).exists())
}

/// The adapters of one API, not yet named.
fn enumerate(backend: wgpu::Backend, api: WgpuBackend) -> Vec<Found> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut next = [0usize; 3];
    let mut number = |kind: usize| {
        next[kind] += 1;
        next[kind] - 1
    };
    let mut found = Vec::new();
    for adapter in read_sync(instance.enumerate_adapters(backend.into())) {
        let info = adapter.get_info();
        use burn::tensor::DeviceKind as Selector;
        // Burn counts the adapters of each type by themselves, in this order.
        let selector = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Some(Selector::DiscreteGpu(number(0))),
            wgpu::DeviceType::IntegratedGpu => Some(Selector::IntegratedGpu(number(1))),
            wgpu::DeviceType::VirtualGpu => Some(Selector::VirtualGpu(number(2))),
            wgpu::DeviceType::Cpu => Some(Selector::Cpu),
            wgpu::DeviceType::Other => None,
        };
        let software = info.device_type == wgpu::DeviceType::Cpu;
        found.push(Found {
            info: AdapterInfo {
                name: info.name,
                backend: backend.to_str().into(),
                kind: if software { DeviceKind::Software } else { DeviceKind::Gpu },
                driver: [info.driver, info.driver_info].join(" ").trim().into(),
                memory_bytes: memory_of(&info.device_pci_bus_id),
                taken_as: None,
                not_taken: None,
            },
            api,
            selector,
            vendor: info.vendor,
            device: info.device,
        });
    }
    found
}

/// Appends the adapters of a further API, naming those that no earlier one reaches.
fn name_new_ones(all: &mut Vec<Found>, adapters: Vec<Found>) {
    let earlier = all.clone();
    let mut seen: Vec<(u32, u32)> = Vec::new();
    for mut adapter in adapters {
        let taken = |kind: DeviceKind| all.iter().filter(|f| f.info.kind == kind && f.info.taken_as.is_some()).count();
        if adapter.info.kind == DeviceKind::Software {
            if taken(DeviceKind::Software) == 0 {
                adapter.info.taken_as = Some("software".into());
                adapter.info.not_taken = Some("a software rasteriser, only with --device software".into());
            } else {
                adapter.info.not_taken = Some("a software rasteriser through a second API".into());
            }
        } else if adapter.selector.is_none() {
            adapter.info.not_taken = Some(format!("{} does not say what kind of device it is", adapter.info.backend));
        } else if is_known(&earlier, &seen, &adapter) {
            adapter.info.not_taken = Some("the same GPU through a second API".into());
        } else {
            adapter.info.taken_as = Some(format!("gpu:{}", taken(DeviceKind::Gpu)));
        }
        seen.push((adapter.vendor, adapter.device));
        all.push(adapter);
    }
}

/// Whether an earlier API reached this GPU: it had more of this model than this API has shown so far. OpenGL does not
/// tell the model, so there the vendor decides.
fn is_known(earlier: &[Found], seen: &[(u32, u32)], adapter: &Found) -> bool {
    let gpus = earlier.iter().filter(|f| f.info.kind == DeviceKind::Gpu && f.info.taken_as.is_some());
    if adapter.info.backend == wgpu::Backend::Gl.to_str() {
        return gpus.into_iter().any(|f| adapter.vendor == 0 || f.vendor == adapter.vendor);
    }
    let model = (adapter.vendor, adapter.device);
    let shown = seen.iter().filter(|m| **m == model).count();
    gpus.filter(|f| (f.vendor, f.device) == model).count() > shown
}

/// Memory of a graphics card. Linux tells for AMD cards; wgpu has no question for it.
fn memory_of(pci_bus_id: &str) -> Option<u64> {
    let is_id = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    if pci_bus_id.is_empty() || !pci_bus_id.chars().all(is_id) {
        return None;
    }
    let path = format!("/sys/bus/pci/devices/{pci_bus_id}/mem_info_vram_total");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, backend: wgpu::Backend, kind: DeviceKind, model: (u32, u32)) -> Found {
        Found {
            info: AdapterInfo {
                name: name.into(),
                backend: backend.to_str().into(),
                kind,
                driver: String::new(),
                memory_bytes: None,
                taken_as: None,
                not_taken: None,
            },
            api: WgpuBackend::Vulkan,
            selector: Some(burn::tensor::DeviceKind::DiscreteGpu(0)),
            vendor: model.0,
            device: model.1,
        }
    }

    #[test]
    fn every_gpu_is_taken_once() {
        use wgpu::Backend::{Dx12, Gl, Vulkan};
        let mut all = Vec::new();
        let card = |backend| adapter("card", backend, DeviceKind::Gpu, (0x10de, 1));
        let soft = |backend| adapter("llvmpipe", backend, DeviceKind::Software, (0x10005, 0));
        name_new_ones(&mut all, vec![card(Vulkan), soft(Vulkan), card(Vulkan)]);
        name_new_ones(&mut all, vec![card(Dx12), card(Dx12), adapter("new", Dx12, DeviceKind::Gpu, (0x8086, 2))]);
        name_new_ones(&mut all, vec![adapter("gl card", Gl, DeviceKind::Gpu, (0x10de, 0)), soft(Gl)]);
        let taken: Vec<_> = all.iter().map(|f| f.info.taken_as.as_deref().unwrap_or("-")).collect();
        assert_eq!(taken, ["gpu:0", "software", "gpu:1", "-", "-", "gpu:2", "-", "-"]);
        assert!(
            all.iter()
                .all(|f| f.info.not_taken.is_none() == f.info.taken_as.as_deref().is_some_and(|t| t != "software"))
        );
    }
}
