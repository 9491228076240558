//! Devices brought up: what they are called, what they can hold, and Burn's handle.

use crate::adapter::{Found, GRAPHICS, found};
use crate::{DeviceRequest, EngineError, JobError, RequestedKind};
use bps_types::policy::DeviceKind;
use burn::backend::DispatchDevice;
use burn::tensor::Device;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};

/// The compiler that text kernels need; Burn picks another one if a build enables its `vulkan` or `metal` feature.
const WGSL_RUNTIME: &str = "wgpu<wgsl>";

/// A device of an engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceDescription {
    /// Index for [`Engine`](crate::Engine)'s methods.
    pub index: usize,
    /// `cpu`, `cpu:0/2`, `gpu:0` or `software`.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Changes when hardware, driver or this version change: a profile holds for one fingerprint.
    pub fingerprint: String,
    /// Its memory; none where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// Threads that execute; 0 on a GPU.
    pub threads: usize,
    /// Declared slowdown, 1 for none.
    pub slowdown: f32,
}

/// A device that is up.
#[derive(Clone, Debug)]
pub(crate) struct OpenDevice {
    pub(crate) description: DeviceDescription,
    burn: Device,
}

impl OpenDevice {
    pub(crate) fn burn(&self) -> &Device {
        &self.burn
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.description.kind == DeviceKind::Cpu
    }

    /// Burn's client for launching kernels; none on the processor.
    pub(crate) fn client(&self) -> Option<(burn::backend::CubeDevice, burn::cubecl::client::Client)> {
        match self.burn.as_dispatch() {
            DispatchDevice::Cube(device) => Some((device.clone(), device.client())),
            _ => None,
        }
    }

    /// Waits until the device has done all it was told.
    pub(crate) fn sync(&self) -> Result<(), JobError> {
        self.burn.sync().map_err(|e| JobError::classify(None, e.to_string()))
    }

    /// Memory that a further model could use; none where the system does not tell.
    pub(crate) fn memory_free_bytes(&self) -> Option<u64> {
        if self.is_cpu() { memory_line_bytes("MemAvailable:") } else { None }
    }
}

/// Brings up what is asked for, in the order asked.
pub(crate) fn open(requests: &[DeviceRequest]) -> Result<Vec<OpenDevice>, EngineError> {
    let mut devices = Vec::new();
    for request in requests {
        match request.kind {
            RequestedKind::Cpu { shares } => open_cpu(&mut devices, shares, request.slowdown),
            RequestedKind::Gpu(index) => open_named(&mut devices, &format!("gpu:{index}"), request.slowdown)?,
            RequestedKind::Software => open_named(&mut devices, "software", request.slowdown)?,
            RequestedKind::Auto => {
                for gpu in found().iter().filter(|f| f.info.kind == DeviceKind::Gpu) {
                    let Some(name) = &gpu.info.taken_as else { continue };
                    // A GPU that does not come up must not keep the host from serving.
                    if let Err(error) = open_named(&mut devices, name, request.slowdown) {
                        tracing::warn!(%error, adapter = gpu.info.name, "GPU left out");
                    }
                }
                open_cpu(&mut devices, 1, request.slowdown);
            }
        }
    }
    for (index, device) in devices.iter_mut().enumerate() {
        device.description.index = index;
    }
    for (i, device) in devices.iter().enumerate() {
        if devices[..i].iter().any(|d| d.description.name == device.description.name) {
            return Err(EngineError::Duplicate { name: device.description.name.clone() });
        }
    }
    Ok(devices)
}

/// The processor as `shares` devices; cores that do not divide go to the first ones.
fn open_cpu(devices: &mut Vec<OpenDevice>, shares: u32, slowdown: f32) {
    let (cores, shares) = (cpu_threads(), shares as usize);
    for share in 0..shares {
        let threads = (cores / shares + usize::from(share < cores % shares)).max(1);
        let name = if shares == 1 { "cpu".into() } else { format!("cpu:{share}/{shares}") };
        let description = DeviceDescription {
            index: 0,
            fingerprint: fingerprint(&[&cpu_model(), "native", &threads.to_string()]),
            name,
            kind: DeviceKind::Cpu,
            memory_bytes: memory_total_bytes(),
            threads,
            slowdown,
        };
        devices.push(OpenDevice { description, burn: Device::flex() });
    }
}

fn open_named(devices: &mut Vec<OpenDevice>, name: &str, slowdown: f32) -> Result<(), EngineError> {
    let found = found();
    let Some(adapter) = found.iter().find(|f| f.info.taken_as.as_deref() == Some(name)) else {
        let names = found.iter().filter_map(|f| Some(format!("{} ({})", f.info.taken_as.as_ref()?, f.info.name)));
        let available = std::iter::once("cpu".to_owned()).chain(names).collect::<Vec<_>>().join(", ");
        return Err(EngineError::NoSuchDevice { asked: name.into(), available });
    };
    let burn = open_adapter(adapter).map_err(|message| EngineError::Start { name: name.into(), message })?;
    let info = &adapter.info;
    // What runs on the processor has its memory.
    let is_software = info.kind == DeviceKind::Software;
    let description = DeviceDescription {
        index: 0,
        name: name.into(),
        kind: info.kind,
        fingerprint: fingerprint(&[&info.name, &info.backend, &info.driver]),
        memory_bytes: info.memory_bytes.or_else(|| if is_software { memory_total_bytes() } else { None }),
        threads: 0,
        slowdown,
    };
    let device = OpenDevice { description, burn };
    match device.client() {
        Some((_, client)) if client.name() == WGSL_RUNTIME => devices.push(device),
        other => {
            let runtime = other.map_or("another backend", |(_, client)| client.name());
            let message = format!("kernels are WGSL, but this build runs {runtime}");
            return Err(EngineError::Start { name: name.into(), message });
        }
    }
    Ok(())
}

/// Burn's device for an adapter. Burn registers an adapter once per process, so a second engine gets the first one's.
fn open_adapter(adapter: &Found) -> Result<Device, String> {
    static OPENED: Mutex<Vec<(String, Device)>> = Mutex::new(Vec::new());
    let key = format!("{:?} {:?}", adapter.api, adapter.selector);
    let _guard = GRAPHICS.lock();
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = opened.iter().find(|(k, _)| *k == key) {
        return Ok(device.clone());
    }
    let selector = adapter.selector.clone().ok_or("no selector")?;
    let options = Device::wgpu_options().device_kind(selector).graphics_api(adapter.api);
    let (device, setup) = options.init_with_setup().map_err(|e| e.to_string())?;
    let got = setup.adapter.get_info().name;
    if got != adapter.info.name {
        return Err(format!("asked for {}, got {got}", adapter.info.name));
    }
    opened.push((key, device.clone()));
    Ok(device)
}

/// Hex digest of what execution time depends on.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts.iter().chain(&[env!("CARGO_PKG_VERSION")]) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    bps_types::hex(&hash.finalize()[..8])
}

/// Logical processors this process may use.
pub(crate) fn cpu_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor's name as Linux gives it, the architecture elsewhere.
pub(crate) fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split(':').nth(1)).map_or(std::env::consts::ARCH.into(), |m| m.trim().into())
}

/// Where a container's limit of main memory is, as its processes see it.
const MEMORY_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Main memory, of a container what it may take; none where the system does not tell.
pub(crate) fn memory_total_bytes() -> Option<u64> {
    // Without a limit there is a word, or more than the machine has.
    let limit = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    MEMORY_LIMITS.into_iter().filter_map(limit).chain(memory_line_bytes("MemTotal:")).min()
}

fn memory_line_bytes(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = text.lines().find(|l| l.starts_with(name))?.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}
