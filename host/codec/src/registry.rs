//! The codecs there are. Numbers and names are part of the wire protocol: they are added to, never changed.

use crate::ff;
use bps_types::DataType;

/// The codec that changes nothing.
pub const RAW: u8 = 0;

/// What happens to the elements before an optional zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Nothing: the tensor's own bytes.
    Plain,
    /// FP32 as IEEE half precision, see [`f16`](crate::f16).
    F16,
    /// FP32 as one byte an element behind a header a row, see [`int8`](crate::int8).
    Int8,
    /// UINT8 images (NHWC) as one JPEG a row.
    Jpeg,
    /// FP32 as a frame of [`ff`](crate::ff).
    Ff,
}

/// A codec.
#[derive(Clone, Copy, Debug)]
pub struct CodecSpec {
    /// Its number on the wire and in plans; 0 is raw.
    pub id: u8,
    /// Its name; number and name agree on all hosts.
    pub name: &'static str,
    /// Rates on offer, ascending; empty where there is none (then the rate is 0). JPEG's are qualities; FF's grow coarser.
    pub rates: &'static [u8],
    /// Decoding returns every bit.
    pub lossless: bool,
    /// Applies to a model's input, not to activations.
    pub for_input: bool,
    /// What happens to the elements.
    pub layout: Layout,
    /// Whether zstd goes over the laid-out bytes.
    pub squeezed: bool,
    /// Per rate (one entry where there is none), before anything was seen: bits per element, loss in parts per million.
    assumed: &'static [(f32, u32)],
}

impl CodecSpec {
    /// Whether tensors of this type can be encoded. Raw takes every type, with zstd every type but BYTES (its length does
    /// not follow from the shape); F16 and INT8 take FP32, JPEG takes UINT8.
    pub fn takes(&self, data_type: DataType) -> bool {
        match self.layout {
            Layout::Plain => !self.squeezed || data_type != DataType::Bytes,
            Layout::F16 | Layout::Int8 | Layout::Ff => data_type == DataType::Fp32,
            Layout::Jpeg => data_type == DataType::Uint8,
        }
    }

    /// Whether the codec offers this rate.
    pub fn offers(&self, rate: u8) -> bool {
        if self.rates.is_empty() { rate == 0 } else { self.rates.contains(&rate) }
    }

    /// The middle one of its rates; 0 where there is none.
    pub fn usual_rate(&self) -> u8 {
        self.rates.get(self.rates.len() / 2).copied().unwrap_or(0)
    }

    /// Encoded bits per element: a guess, until real sizes correct it. Exact without zstd and JPEG, headers aside. With
    /// zstd the truth depends on the cut: in the digits net 12 to 17, 7 to 9 and 4 to 5 bits behind a ReLU (raw, f16,
    /// int8), 28 to 30, 15 and 7 to 7.6 elsewhere.
    pub fn bits_per_element_assumed(&self, rate: u8) -> f32 {
        self.assumed(rate).0
    }

    /// Accuracy lost in parts per million: assumed until calibrated with the model; 0 only where nothing is lost.
    pub fn loss_ppm_assumed(&self, rate: u8) -> u32 {
        self.assumed(rate).1
    }

    /// The entry for a rate; for one that is not on offer the most careful.
    fn assumed(&self, rate: u8) -> (f32, u32) {
        let column = self.rates.iter().position(|r| *r == rate).unwrap_or(0);
        self.assumed.get(column).copied().unwrap_or((32.0, 1_000_000))
    }
}

/// A codec without rates for any value.
const fn plain(
    id: u8,
    name: &'static str,
    layout: Layout,
    squeezed: bool,
    assumed: &'static [(f32, u32)],
) -> CodecSpec {
    let lossless = matches!(layout, Layout::Plain);
    CodecSpec { id, name, rates: &[], lossless, for_input: false, layout, squeezed, assumed }
}

/// FF at every second of its rates: each has steps 1.4 times those of the one before.
const fn ff_codec(id: u8, name: &'static str, assumed: &'static [(f32, u32)]) -> CodecSpec {
    let rates = &ff::RATE_LIST;
    CodecSpec { id, name, rates, lossless: false, for_input: false, layout: Layout::Ff, squeezed: false, assumed }
}

static CODECS: [CodecSpec; 10] = [
    plain(RAW, "raw", Layout::Plain, false, &[(32.0, 0)]),
    plain(1, "raw-zstd", Layout::Plain, true, &[(24.0, 0)]),
    plain(2, "f16", Layout::F16, false, &[(16.0, 50)]),
    plain(3, "f16-zstd", Layout::F16, true, &[(13.0, 50)]),
    plain(4, "int8", Layout::Int8, false, &[(8.0, 5_000)]),
    plain(5, "int8-zstd", Layout::Int8, true, &[(5.0, 5_000)]),
    CodecSpec {
        id: 6,
        name: "jpeg",
        rates: &[50, 75, 90, 95],
        lossless: false,
        for_input: true,
        layout: Layout::Jpeg,
        squeezed: false,
        assumed: &[(0.6, 20_000), (0.9, 10_000), (1.6, 4_000), (2.4, 2_000)],
    },
    ff_codec(ff::ID_SCALAR, "ff-s", &ff::ASSUMED_SCALAR),
    ff_codec(ff::ID_HAAR, "ff-h", &ff::ASSUMED_HAAR),
    ff_codec(ff::ID_CANCELLING, "ff-c", &ff::ASSUMED_HAAR),
];

/// Every codec, by ascending number.
pub fn codecs() -> &'static [CodecSpec] {
    &CODECS
}

/// The codec with this number.
pub fn spec(id: u8) -> Option<&'static CodecSpec> {
    CODECS.iter().find(|c| c.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_pinned() {
        let all: Vec<_> = codecs().iter().map(|c| (c.id, c.name, c.rates, c.lossless, c.for_input)).collect();
        let ff = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
        let wanted: [(u8, &str, &[u8], bool, bool); 10] = [
            (0, "raw", &[], true, false),
            (1, "raw-zstd", &[], true, false),
            (2, "f16", &[], false, false),
            (3, "f16-zstd", &[], false, false),
            (4, "int8", &[], false, false),
            (5, "int8-zstd", &[], false, false),
            (6, "jpeg", &[50, 75, 90, 95], false, true),
            (16, "ff-s", &ff, false, false),
            (17, "ff-h", &ff, false, false),
            (18, "ff-c", &ff, false, false),
        ];
        assert_eq!(all, wanted);
        assert!(spec(7).is_none());
    }

    #[test]
    fn assumptions_are_whole_and_ordered() {
        for codec in codecs() {
            assert_eq!(codec.assumed.len(), codec.rates.len().max(1), "{}", codec.name);
            assert_eq!(codec.lossless, codec.assumed.iter().all(|a| a.1 == 0), "{}", codec.name);
            // More bits, less lost; qualities grow finer, FF's rates coarser.
            let finer = |w: &[(f32, u32)]| w[0].0 < w[1].0 && w[0].1 > w[1].1;
            let coarser = |w: &[(f32, u32)]| w[0].0 > w[1].0 && w[0].1 < w[1].1;
            let steps = || codec.assumed.windows(2);
            assert!(steps().all(finer) || steps().all(coarser), "{}", codec.name);
        }
        let jpeg = spec(6).unwrap();
        assert_eq!((jpeg.bits_per_element_assumed(90), jpeg.loss_ppm_assumed(90)), (1.6, 4_000));
        assert!(jpeg.offers(75) && !jpeg.offers(0) && spec(RAW).unwrap().offers(0) && !spec(RAW).unwrap().offers(1));
    }

    #[test]
    fn each_codec_says_what_it_takes() {
        let taken = |id: u8| DataType::ALL.into_iter().filter(|t| spec(id).unwrap().takes(*t)).collect::<Vec<_>>();
        assert_eq!((taken(0).len(), taken(1).len()), (14, 13));
        assert!(!taken(1).contains(&DataType::Bytes));
        assert!([2, 3, 4, 5, 16, 17, 18].into_iter().all(|id| taken(id) == [DataType::Fp32]));
        assert_eq!(taken(6), [DataType::Uint8]);
    }
}
