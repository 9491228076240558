//! FF on a device: elements to packed symbols and back, so that only those cross between it and the processor.
//!
//! **Encoding.** Where the frame states its steps: `ff_power` and `ff_step`. Then `ff_quantise` makes the symbols, from
//! wherever the elements lie; `ff_widths` finds the room that blocks take, `ff_scan` where groups of blocks begin,
//! `ff_clear` and `ff_pack` fill the packed form. A summary is read, which says how much that is, and with it as much as
//! there probably is; the rest only where it was more. The processor puts the frame together, and with rANS codes the
//! symbols.
//!
//! **Decoding.** The processor reads the frame, and with rANS its symbols. Packed symbols go to `ff_unpack`, others as they
//! are, 16 bits each, to `ff_dequantise`; `ff_restore` puts back what symbols cannot say.
//!
//! What a device cannot do (bounded frames, many exceptions, tensors beyond a buffer) is left to the processor.

mod decode;
mod encode;
mod plan;

pub(crate) use decode::{Arrived, open, restore};
pub(crate) use encode::{encode, queue};

/// Symbols of a block.
const BLOCK: usize = 32;
/// Blocks of a group: one for each invocation of a workgroup.
const GROUP: usize = super::WORKGROUP;
/// Blocks whose widths fill a word.
const WIDTHS: usize = 8;
/// Symbols of a word.
const PAIR: usize = 2;
/// Most bits of a value.
const VALUE_BITS_MAX: usize = 14;
