//! zstd over laid-out bytes, at the fastest regular level.
//!
//! One frame per tensor with its content size in the header. The size is compared before anything is allocated, and the
//! output buffer has exactly that size, so a frame cannot expand beyond what the receiver expects.

use std::cell::RefCell;
use std::io;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::get_frame_content_size;

/// Higher levels gain a few per cent on activations and take several times as long.
const LEVEL: i32 = 1;

thread_local! {
    // A context is some hundred kilobytes: made anew for every tensor it would cost more than small tensors do.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's context, made at the first use.
fn with<C, T>(
    slot: &RefCell<Option<C>>,
    make: impl FnOnce() -> io::Result<C>,
    work: impl FnOnce(&mut C) -> io::Result<T>,
) -> io::Result<T> {
    let mut slot = slot.borrow_mut();
    if slot.is_none() {
        *slot = Some(make()?);
    }
    match slot.as_mut() {
        Some(context) => work(context),
        None => Err(io::Error::other("no context")),
    }
}

/// Compresses into one frame.
pub(crate) fn squeeze(data: &[u8]) -> Result<Vec<u8>, String> {
    COMPRESSOR.with(|slot| with(slot, || Compressor::new(LEVEL), |c| c.compress(data))).map_err(|e| e.to_string())
}

/// The content of a frame, which must have exactly `byte_count` bytes.
pub(crate) fn stretch(data: &[u8], byte_count: usize) -> Result<Vec<u8>, String> {
    match get_frame_content_size(data) {
        Ok(Some(said)) if said == byte_count as u64 => {}
        Ok(Some(said)) => return Err(format!("the frame holds {said} bytes, expected {byte_count}")),
        Ok(None) => return Err("the frame does not say how much it holds".to_owned()),
        Err(_) => return Err("not a zstd frame".to_owned()),
    }
    let mut content = Vec::with_capacity(byte_count);
    let got = DECOMPRESSOR
        .with(|slot| with(slot, Decompressor::new, |d| d.decompress_to_buffer(data, &mut content)))
        .map_err(|e| e.to_string())?;
    if got == byte_count && content.len() == byte_count {
        Ok(content)
    } else {
        Err(format!("the frame gave {got} bytes, expected {byte_count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for length in [0, 1, 3, 1_000, 200_000] {
            let data: Vec<u8> = (0..length).map(|i| (i % 7 * (i % 3)) as u8).collect();
            assert_eq!(stretch(&squeeze(&data).unwrap(), length).unwrap(), data);
        }
    }

    #[test]
    fn a_frame_cannot_say_or_give_more_than_is_expected() {
        let frame = squeeze(&[7; 100]).unwrap();
        assert_eq!(stretch(&frame, 99).unwrap_err(), "the frame holds 100 bytes, expected 99");
        assert_eq!(
            stretch(&frame, 1 << 40).unwrap_err(),
            format!("the frame holds 100 bytes, expected {}", 1u64 << 40)
        );
        // A second frame behind the first would have to go somewhere.
        assert!(stretch(&[&frame[..], &frame[..]].concat(), 100).is_err());
        assert!(stretch(&frame[..frame.len() - 1], 100).is_err());
        assert_eq!(stretch(&[], 0).unwrap_err(), "not a zstd frame");
        assert!(stretch(b"no frame at all", 15).is_err());
    }
}
