//! Activations packed and unpacked on a device, so that only packed bytes cross between it and the processor.

use super::{Shader, WORKGROUP, count, launch, le_bytes, lying, tensor, upload_words};
use crate::JobError;
use crate::device::OpenDevice;
use crate::host::{Tensor, device_shape};
use bps_codec::{Layout, int8};
use burn::backend::wgpu::into_contiguous;
use burn::cubecl::client::Client;
use burn::cubecl::server::Handle;
use bytes::Bytes;

/// Workgroups of a reduction: enough to fill a GPU, few enough to end in few atomics.
pub(super) const REDUCTION_GROUPS: usize = 256;

/// How elements are dealt out to rows.
struct Extents {
    elements: usize,
    rows: usize,
    row_elements: usize,
    /// Words of a packed row; for halves, which know no rows, of the tensor.
    words: usize,
}

impl Extents {
    fn of(layout: Layout, shape: &[usize]) -> Result<Self, JobError> {
        let rows = shape.first().copied().unwrap_or(1);
        let elements = bps_types::element_count(shape).filter(|n| *n > 0);
        let elements = elements.ok_or_else(|| JobError::failed(format!("shape {shape:?} cannot be packed")))?;
        let row_elements = elements / rows;
        let words = match layout {
            Layout::F16 => elements.div_ceil(2),
            Layout::Int8 => int8::word_count(row_elements),
            Layout::Plain | Layout::Jpeg | Layout::Ff => {
                return Err(JobError::failed(format!("no kernel packs {layout:?}")));
            }
        };
        Ok(Self { elements, rows, row_elements, words })
    }

    /// Bytes of the packed tensor.
    fn byte_count(&self, layout: Layout) -> usize {
        if layout == Layout::F16 { 2 * self.elements } else { 4 * self.words * self.rows }
    }
}

/// Packs a tensor where it lies and reads the packed bytes back. `shape` is what it must have: a device that failed may
/// hold anything.
pub(crate) fn pack(layout: Layout, values: Tensor, shape: &[usize]) -> Result<Bytes, JobError> {
    let extents = Extents::of(layout, shape)?;
    let values = into_contiguous(lying(values, shape, extents.elements)?);
    let packed = match layout {
        Layout::F16 => pack_halves(&values.client, &values.handle, &extents)?,
        _ => pack_codes(&values.client, &values.handle, &extents)?,
    };
    let bytes = values.client.read_one(packed).map_err(|e| JobError::classify(None, e.to_string()))?;
    // Copied: they may lie in pinned staging memory, which results must not hold on to.
    let wanted = bytes.get(..extents.byte_count(layout)).map(Bytes::copy_from_slice);
    wanted.ok_or_else(|| JobError::failed(format!("a kernel's result is too short: {} bytes", bytes.len())))
}

fn pack_halves(client: &Client, values: &Handle, extents: &Extents) -> Result<Handle, JobError> {
    let words = client.empty(4 * extents.words);
    let info = [count(extents.elements)?, count(extents.words)?, 0, 0];
    launch(client, Shader::F16Pack, &[values, &words], info, extents.words);
    Ok(words)
}

fn pack_codes(client: &Client, values: &Handle, extents: &Extents) -> Result<Handle, JobError> {
    let Extents { elements, rows, row_elements, words } = *extents;
    count(elements)?;
    let word_count = words * rows;
    let range = upload_words(client, le_bytes((0..rows).flat_map(|_| [u32::MAX, 0])));
    let row_groups = row_elements.div_ceil(WORKGROUP).min((REDUCTION_GROUPS / rows).max(1));
    let invocations = row_groups * WORKGROUP;
    let info = [count(row_elements)?, count(invocations)?, count(rows)?, 0];
    launch(client, Shader::Int8Range, &[values, &range], info, count(invocations * rows)? as usize);
    let packed = client.empty(4 * word_count);
    let info = [count(row_elements)?, count(words)?, count(rows)?, 0];
    launch(client, Shader::Int8Pack, &[values, &range, &packed], info, count(word_count)? as usize);
    Ok(packed)
}

/// Moves packed bytes to a device and unpacks them there into a tensor of this shape.
pub(crate) fn unpack(device: &OpenDevice, layout: Layout, packed: &[u8], shape: &[usize]) -> Result<Tensor, JobError> {
    let (cube, client) = device.client().ok_or_else(|| JobError::failed("this device has no kernels"))?;
    let extents = Extents::of(layout, shape)?;
    if packed.len() != extents.byte_count(layout) {
        return Err(JobError::failed(format!("{} bytes do not hold {shape:?} as {layout:?}", packed.len())));
    }
    let elements = count(extents.elements)?;
    let source = upload_words(&client, packed.to_vec());
    let values = client.empty(4 * extents.elements);
    let (shader, info) = match layout {
        Layout::F16 => (Shader::F16Unpack, [elements, 0, 0, 0]),
        _ => {
            let info = [count(extents.row_elements)?, count(extents.words)?, count(extents.rows)?, 0];
            (Shader::Int8Unpack, info)
        }
    };
    launch(&client, shader, &[&source, &values], info, extents.elements);
    tensor(client, cube, values, device_shape(shape))
}
