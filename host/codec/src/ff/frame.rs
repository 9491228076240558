//! What a frame says of itself, for those who show or keep frames.

use super::format::Header;
use super::{Entropy, FfError, Mode, Order};

/// The choices that a frame states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The transform.
    pub mode: Mode,
    /// The last stage.
    pub entropy: Entropy,
    /// Order of the memory that it was made from.
    pub order: Order,
    /// The rate; in a bounded frame only a label.
    pub q: u8,
    /// Whether no element differs by more than a bound.
    pub bounded: bool,
    /// The package that it was made with.
    pub package: u64,
}

impl Frame {
    /// Reads what the first bytes say; nothing behind them is checked. Errors where they do not begin as a frame.
    pub fn read(bytes: &[u8]) -> Result<Self, FfError> {
        let Header { choice, package, .. } = Header::read(bytes)?;
        let (mode, entropy, order) = (choice.mode, choice.entropy, choice.order);
        Ok(Self { mode, entropy, order, q: choice.q, bounded: choice.bounded, package })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ff::{CutPackage, Settings, encode};
    use bps_types::HostTensor;

    #[test]
    fn a_frame_says_how_it_was_made() {
        let tensor = HostTensor::from_f32(vec![1, 4, 4, 2], &[0.5; 32]).unwrap();
        let package = CutPackage::data_free().unwrap().id();
        for (mode, entropy) in Mode::ALL.into_iter().zip(Entropy::ALL) {
            for (order, bound) in [(Order::Nchw, None), (Order::Nhwc, Some(0.1))] {
                let settings = Settings { entropy, order, bound, ..Settings::new(mode, 9) };
                let frame = Frame::read(&encode(&settings, &tensor).unwrap()).unwrap();
                assert_eq!(frame, Frame { mode, entropy, order, q: 9, bounded: bound.is_some(), package });
            }
        }
        assert!(Frame::read(b"FFv1").unwrap_err().to_string().starts_with("byte 4, header"));
    }
}
