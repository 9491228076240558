//! The kernels of `shaders/` on a device: what is bound, and how many invocations run.

pub(crate) mod ff;
mod pack;
mod shader;

pub(crate) use pack::{pack, unpack};

use crate::JobError;
use crate::device::OpenDevice;
use crate::host::Tensor;
use crate::model::PixelInput;
use bps_codec::ff::ID_CANCELLING;
use bps_codec::{CodecSpec, Layout};
use burn::backend::wgpu::{CubeTensor, SourceKernel};
use burn::backend::{Cube, CubeDevice, TensorMetadata};
use burn::cubecl::client::Client;
use burn::cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};
use burn::cubecl::{CubeCount, CubeDim};
use burn::tensor::{Bytes, DType, Shape};
use shader::Shader;

/// Invocations of a workgroup, as every shader declares.
const WORKGROUP: usize = 256;
/// Most workgroups along one dimension that every adapter allows.
const GROUPS_MAX: usize = 65_535;

/// Whether a GPU packs with this codec itself, zstd aside. Symbols whose errors cancel are chosen one after another: on the
/// processor.
pub(crate) fn packs(codec: &CodecSpec) -> bool {
    match codec.layout {
        Layout::F16 | Layout::Int8 => true,
        Layout::Ff => codec.id != ID_CANCELLING,
        Layout::Plain | Layout::Jpeg => false,
    }
}

/// Queues a kernel over `invocations`; failures show when a buffer is read or checked.
/// `info` are the words of its uniform.
fn launch<const WORDS: usize>(
    client: &Client,
    shader: Shader,
    buffers: &[&Handle],
    info: [u32; WORDS],
    invocations: usize,
) {
    // Uniforms are read 16 bytes at a time.
    const { assert!(WORDS.is_multiple_of(4)) };
    let (pairs, _) = info.as_chunks::<2>();
    let pairs = pairs.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32);
    let info = MetadataBindingInfo::custom(pairs.collect());
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

/// A tensor of this many FP32 elements as it lies on its device.
fn lying(values: Tensor, shape: &[usize], elements: usize) -> Result<CubeTensor, JobError> {
    // The const rank is not checked; the tensor keeps its own.
    let values = burn::tensor::Tensor::<1>::from_dispatch(values)
        .try_into_primitive::<Cube>()
        .map_err(|e| JobError::failed(format!("not on a device with kernels: {e:?}")))?;
    if values.dtype() != DType::F32 || values.shape().num_elements() != elements {
        let (data_type, got) = (values.dtype(), values.shape());
        return Err(JobError::failed(format!("result is {data_type:?} of shape {got:?}, expected FP32 {shape:?}")));
    }
    Ok(values)
}

/// Makes a contiguous FP32 tensor of a buffer that kernels have been told to fill; errors where that cannot succeed.
fn tensor(client: Client, cube: CubeDevice, values: Handle, dims: Vec<usize>) -> Result<Tensor, JobError> {
    client.check([&values]).map_err(|e| JobError::classify(None, e.to_string()))?;
    let tensor = CubeTensor::new_contiguous(client, cube, Shape::from(dims), values, DType::F32);
    // The const rank is not checked; the tensor keeps its own.
    Ok(burn::tensor::Tensor::<1>::from_primitive::<Cube>(tensor).into_dispatch())
}
