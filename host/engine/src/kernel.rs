//! The kernels of `shaders/` on a device: what is bound, and how many invocations run.

use crate::JobError;
use crate::device::OpenDevice;
use crate::host::Tensor;
use crate::model::PixelInput;
use bps_codec::int8;
use burn::backend::Cube;
use burn::backend::wgpu::{CubeTensor, KernelSource, SourceKernel, SourceTemplate};
use burn::cubecl::client::Client;
use burn::cubecl::prelude::KernelId;
use burn::cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};
use burn::cubecl::{CubeCount, CubeDim};
use burn::tensor::{DType, Shape};

/// Invocations of a workgroup, as every shader declares.
const WORKGROUP: usize = 256;
/// Most workgroups along one dimension that every adapter allows.
const GROUPS_MAX: usize = 65_535;
/// Workgroups of a reduction: enough to fill a GPU, few enough to end in few atomics.
const REDUCTION_GROUPS: usize = 256;

/// A file of `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shader {
    NormalizeU8,
    Int8Range,
    Int8Pack,
    Int8Unpack,
}

impl Shader {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::NormalizeU8, Self::Int8Range, Self::Int8Pack, Self::Int8Unpack];

    /// The file's text.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NormalizeU8 => include_str!("../../../shaders/normalize_u8.wgsl"),
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

/// Bytes as whole words.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4).max(4), 0);
    bytes
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
    let source = client.create_from_slice(&padded(bytes));
    let factors = le_bytes(pixels.mean.iter().chain(&pixels.scale).map(|f| f.to_bits()));
    let factors = client.create_from_slice(&factors);
    let planes = client.empty(elements * 4);
    let info = [count(elements)?, count(shape.height * shape.width)?, count(shape.channels)?, 0];
    launch(&client, Shader::NormalizeU8, &[&source, &factors, &planes], info, elements);
    client.check([&planes]).map_err(|e| JobError::classify(None, e.to_string()))?;
    let dims = Shape::from(vec![rows, shape.channels, shape.height, shape.width]);
    let tensor = CubeTensor::new_contiguous(client, cube, dims, planes, DType::F32);
    // The const rank is not checked; the tensor keeps its own.
    Ok(burn::tensor::Tensor::<4>::from_primitive::<Cube>(tensor).into_dispatch())
}

/// Packs values on the device; the layout is `bps_codec::int8`'s.
pub(crate) fn int8_pack(device: &OpenDevice, values: &[f32]) -> Result<Vec<u32>, JobError> {
    let (_, client) = device.client().ok_or_else(|| JobError::failed("this device has no kernels"))?;
    let word_count = int8::word_count(values.len());
    let source = client.create_from_slice(&padded(le_bytes(values.iter().map(|v| v.to_bits()))));
    let range = client.create_from_slice(&le_bytes([u32::MAX, 0]));
    let words = client.empty(word_count * 4);
    let invocations = values.len().min(REDUCTION_GROUPS * WORKGROUP).next_multiple_of(WORKGROUP).max(WORKGROUP);
    let info = [count(values.len())?, count(invocations)?, 0, 0];
    launch(&client, Shader::Int8Range, &[&source, &range], info, invocations);
    let info = [count(values.len())?, count(word_count)?, 0, 0];
    launch(&client, Shader::Int8Pack, &[&source, &range, &words], info, word_count);
    read_words(&client, words, word_count)
}

/// Unpacks `element_count` values on the device.
pub(crate) fn int8_unpack(device: &OpenDevice, words: &[u32], element_count: usize) -> Result<Vec<f32>, JobError> {
    let (_, client) = device.client().ok_or_else(|| JobError::failed("this device has no kernels"))?;
    if words.len() != int8::word_count(element_count) {
        return Err(JobError::failed(format!("{} words do not hold {element_count} elements", words.len())));
    }
    if element_count == 0 {
        return Ok(vec![]);
    }
    let source = client.create_from_slice(&le_bytes(words.iter().copied()));
    let values = client.empty(element_count * 4);
    launch(&client, Shader::Int8Unpack, &[&source, &values], [count(element_count)?, 0, 0, 0], element_count);
    Ok(read_words(&client, values, element_count)?.into_iter().map(f32::from_bits).collect())
}

fn read_words(client: &Client, handle: Handle, word_count: usize) -> Result<Vec<u32>, JobError> {
    let bytes = client.read_one(handle).map_err(|e| JobError::classify(None, e.to_string()))?;
    let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().take(word_count).map(|b| u32::from_le_bytes(*b)).collect();
    if words.len() == word_count { Ok(words) } else { Err(JobError::failed("a kernel's result is too short")) }
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
