//! Between host memory and a device: upload, read-back, and the check of what came back.

use crate::JobError;
use crate::device::OpenDevice;
use bps_types::{DataType, HostTensor, element_count};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, DispatchTensor, Flex, TensorMetadata};
use burn::tensor::{DType, Device, TensorData, read_sync};

/// A tensor on a device, of any rank. Where the graph has rank 0, this has shape `[1]`.
pub(crate) type Tensor = DispatchTensor;

/// How a shape is represented on a device: rank 0 does not exist there.
pub(crate) fn device_shape(shape: &[usize]) -> Vec<usize> {
    if shape.is_empty() { vec![1] } else { shape.to_vec() }
}

/// Moves values to a device without copying them on the host.
pub(crate) fn upload(values: Vec<f32>, shape: &[usize], device: &Device) -> Tensor {
    Dispatch::float_from_data(TensorData::new(values, device_shape(shape)), device.as_dispatch())
}

/// The values of a tensor on the processor, contiguous from the index that comes with them.
pub(crate) fn flex_values(tensor: Tensor) -> Result<(FlexTensor, usize), String> {
    // The const rank is not checked; the tensor keeps its own.
    let tensor = burn::tensor::Tensor::<1>::from_dispatch(tensor)
        .try_into_primitive::<Flex>()
        .map_err(|e| format!("not on the processor: {e:?}"))?
        .to_contiguous();
    let start = tensor.layout().start_offset();
    Ok((tensor, start))
}

/// Reads a tensor back and checks that it is what `shape` promises: a device that failed may return anything.
pub(crate) fn read_back(tensor: Tensor, shape: &[usize], device: &OpenDevice) -> Result<HostTensor, JobError> {
    let got = tensor.shape();
    let data = read_sync(Dispatch::float_into_data(tensor)).map_err(|e| JobError::classify(None, e.to_string()))?;
    let (bytes, _, data_type) = data.into_parts();
    let count = element_count(shape).unwrap_or(usize::MAX);
    if data_type != DType::F32 || bytes.len() / 4 != count || got.num_elements() != count {
        let message = format!("result has shape {got:?}, {} bytes, expected FP32 {shape:?}", bytes.len());
        return Err(JobError::failed(message));
    }
    // A GPU's bytes may lie in pinned staging memory, which results must not hold on to.
    let bytes = if device.is_cpu() {
        bytes::Bytes::from_owner(OwnedBytes(bytes))
    } else {
        bytes::Bytes::copy_from_slice(&bytes)
    };
    HostTensor::new(DataType::Fp32, shape.to_vec(), bytes).map_err(|e| JobError::failed(e.to_string()))
}

/// Lets `bytes::Bytes` own Burn's bytes.
struct OwnedBytes(burn::tensor::Bytes);

impl AsRef<[u8]> for OwnedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
