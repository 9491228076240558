//! The kernels of `shaders/` on a device: what is bound, and how many invocations run.

mod pack;

pub(crate) use pack::{pack, unpack};

use crate::JobError;
use crate::device::OpenDevice;
use crate::host::Tensor;
use crate::model::PixelInput;
use burn::backend::wgpu::{CubeTensor, KernelSource, SourceKernel, SourceTemplate};
use burn::backend::{Cube, CubeDevice};
use burn::cubecl::client::Client;
use burn::cubecl::prelude::KernelId;
use burn::cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};
use burn::cubecl::{CubeCount, CubeDim};
use burn::tensor::{Bytes, DType, Shape};

/// Invocations of a workgroup, as every shader declares.
const WORKGROUP: usize = 256;
/// Most workgroups along one dimension that every adapter allows.
const GROUPS_MAX: usize = 65_535;

/// A file of `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shader {
    NormalizeU8,
    F16Pack,
    F16Unpack,
    Int8Range,
    Int8Pack,
    Int8Unpack,
}

impl Shader {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] =
        [Self::NormalizeU8, Self::F16Pack, Self::F16Unpack, Self::Int8Range, Self::Int8Pack, Self::Int8Unpack];

    /// The file's text.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NormalizeU8 => include_str!("../../../shaders/normalize_u8.wgsl"),
            Self::F16Pack => include_str!("../../../shaders/f16_pack.wgsl"),
            Self::F16Unpack => include_str!("../../../shaders/f16_unpack.wgsl"),
            Self::Int8Range => include_str!("../../../shaders/int8_range.wgsl"),
            Self::Int8Pack => include_str!("../../../shaders/int8_pack.wgsl"),
            Self::Int8Unpack => include_str!("../../../shaders/int8_unpack.wgsl"),
        }
    }
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.text())
    }

    fn id(&self) -> KernelId {
        // The cache of pipelines sees nothing but this.
        KernelId::new::<Self>().info((*self, self.text()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Queues a kernel over `invocations`; failures show when a buffer is read or checked.
fn launch(client: &Client, shader: Shader, buffers: &[&Handle], info: [u32; 4], invocations: usize) {
    let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let info = MetadataBindingInfo::custom(vec![word(info[0], info[1]), word(info[2], info[3])]);
    let groups = invocations.div_ceil(WORKGROUP).max(1);
    let x = groups.min(GROUPS_MAX);
    let count = CubeCount::Static(x as u32, groups.div_ceil(x) as u32, 1);
    let buffers = buffers.iter().map(|b| (*b).clone().binding()).collect();
    let arguments = KernelArguments::new().with_buffers(buffers).with_info(info);
    client.launch(Box::new(SourceKernel::new(shader, CubeDim::new_1d(WORKGROUP as u32))), count, arguments);
}

/// A count for a kernel's `info`.
fn count(n: usize) -> Result<u32, JobError> {
    u32::try_from(n).map_err(|_| JobError::failed(format!("{n} elements are too many for a kernel")))
}

/// Moves bytes to a device as whole words, at least one.
fn upload_words(client: &Client, mut bytes: Vec<u8>) -> Handle {
    bytes.resize(bytes.len().next_multiple_of(4).max(4), 0);
    client.create(Bytes::from_bytes_vec(bytes))
}

fn le_bytes(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Image bytes (NHWC) to a network input (NCHW) on the device.
pub(crate) fn normalize(
    device: &OpenDevice,
    bytes: Vec<u8>,
    pixels: &PixelInput,
    rows: usize,
) -> Result<Tensor, JobError> {
    let (cube, client) = device.client().ok_or_else(|| JobError::failed("this device has no kernels"))?;
    let shape = pixels.shape(rows);
    let elements = bytes.len();
    if shape.byte_count() != Ok(elements) {
        return Err(JobError::failed(format!("{elements} image bytes do not fit {shape:?}")));
    }
    let source = upload_words(&client, bytes);
    let factors = upload_words(&client, le_bytes(pixels.mean.iter().chain(&pixels.scale).map(|f| f.to_bits())));
    let planes = client.empty(elements * 4);
    let info = [count(elements)?, count(shape.height * shape.width)?, count(shape.channels)?, 0];
    launch(&client, Shader::NormalizeU8, &[&source, &factors, &planes], info, elements);
    let dims = vec![rows, shape.channels, shape.height, shape.width];
    tensor(client, cube, planes, dims)
}

/// Makes a contiguous FP32 tensor of a buffer that kernels have been told to fill; errors where that cannot succeed.
fn tensor(client: Client, cube: CubeDevice, values: Handle, dims: Vec<usize>) -> Result<Tensor, JobError> {
    client.check([&values]).map_err(|e| JobError::classify(None, e.to_string()))?;
    let tensor = CubeTensor::new_contiguous(client, cube, Shape::from(dims), values, DType::F32);
    // The const rank is not checked; the tensor keeps its own.
    Ok(burn::tensor::Tensor::<1>::from_primitive::<Cube>(tensor).into_dispatch())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shader_is_valid_wgsl() {
        for shader in Shader::ALL {
            let module = naga::front::wgsl::parse_str(shader.text())
                .unwrap_or_else(|e| panic!("{shader:?}: {}", e.emit_to_string(shader.text())));
            let flags = naga::valid::ValidationFlags::all();
            let info = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty())
                .validate(&module)
                .unwrap_or_else(|e| panic!("{shader:?}: {e:?}"));
            let [entry] = &module.entry_points[..] else { panic!("{shader:?}: one entry point expected") };
            assert_eq!((entry.name.as_str(), entry.workgroup_size), ("main", [WORKGROUP as u32, 1, 1]), "{shader:?}");
            // The pipeline layout holds only what is used; a binding that is not would shift the others.
            for (handle, global) in module.global_variables.iter().filter(|(_, g)| g.binding.is_some()) {
                assert!(!info.get_entry_point(0)[handle].is_empty(), "{shader:?}: {:?} is unused", global.name);
            }
        }
    }

    #[test]
    fn every_shader_file_is_known() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders");
        let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
        let texts: Vec<_> = files
            .filter(|p| p.extension().is_some_and(|e| e == "wgsl"))
            .map(|p| std::fs::read_to_string(p).unwrap())
            .collect();
        assert_eq!(texts.len(), Shader::ALL.len());
        assert!(texts.iter().all(|t| Shader::ALL.iter().any(|s| s.text() == t)));
    }
}
