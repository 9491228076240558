//! What encoding and decoding cost at each cut of one model: size, accuracy, time on each device.

use crate::codecs;
use bps_codec::{CodecSpec, CodecTiming};
use bps_engine::DeviceDescription;
use bps_types::policy::{DeviceKind, Table, TableKind};

/// Bytes of an element before it is encoded.
const ELEMENT_BYTES: f32 = 4.0;

/// What is needed to make the tables.
pub(super) struct Codings {
    /// Elements of one row that cross each cut.
    elements: Vec<f32>,
    /// Whether the input is an image, which an image codec can encode.
    pixels: bool,
    devices: Vec<Coder>,
}

/// A device that encodes and decodes.
struct Coder {
    device: u32,
    kind: DeviceKind,
    slowdown: f32,
    /// None where nothing was measured.
    timings: Option<Vec<CodecTiming>>,
}

impl Coder {
    /// Nanoseconds to encode and to decode so many elements, and whether that was measured.
    fn nanos(&self, codec: &CodecSpec, elements: f32) -> (f32, f32, bool) {
        let timing = self.timings.iter().flatten().find(|t| t.codec == codec.id);
        let (encode, decode, fixed) = match timing {
            Some(t) => (t.encode_nanos_per_element, t.decode_nanos_per_element, t.fixed_nanos),
            None => {
                let (encode, decode) = codecs::nanos_per_element_assumed(codec, self.kind);
                (encode * self.slowdown, decode * self.slowdown, 0.0)
            }
        };
        let of = |per_element: f32| if elements > 0.0 { elements * per_element + fixed } else { 0.0 };
        (of(encode), of(decode), timing.is_some())
    }
}

impl Codings {
    /// `cut_bytes` are those of one row, unencoded; `timings` what was measured of a device, if anything.
    pub(super) fn new(
        cut_bytes: &[f32],
        pixels: bool,
        devices: &[&DeviceDescription],
        timings: impl Fn(usize) -> Option<Vec<CodecTiming>>,
    ) -> Self {
        let coder = |d: &&DeviceDescription| Coder {
            device: d.index as u32,
            kind: d.kind,
            slowdown: d.slowdown.max(1.0),
            timings: timings(d.index),
        };
        Self {
            elements: cut_bytes.iter().map(|b| b / ELEMENT_BYTES).collect(),
            pixels,
            devices: devices.iter().map(coder).collect(),
        }
    }

    /// Sizes and losses are assumptions; transfers correct the sizes.
    pub(super) fn tables(&self, epoch: u32, model: u32) -> Vec<Table> {
        let mut tables = Vec::new();
        for codec in bps_codec::codecs() {
            let rates = codecs::columns(codec);
            let mut push = |kind, device, measured, value: &dyn Fn(usize, u8) -> f32| {
                let cells = (0..self.elements.len()).flat_map(|cut| rates.iter().map(move |rate| (cut, *rate)));
                tables.push(Table {
                    epoch,
                    model,
                    device,
                    codec: codec.id,
                    kind,
                    measured,
                    shape: vec![self.elements.len() as u32, rates.len() as u32],
                    values: cells.map(|(cut, rate)| value(cut, rate)).collect(),
                });
            };
            push(TableKind::CodecBits, 0, false, &|_, rate| codec.bits_per_element_assumed(rate));
            push(TableKind::CodecLossPpm, 0, false, &|cut, rate| {
                if self.applies(codec, cut) { codec.loss_ppm_assumed(rate) as f32 } else { codecs::LOSS_FORBIDDEN_PPM }
            });
            for coder in &self.devices {
                let nanos = |cut: usize| coder.nanos(codec, self.elements[cut]);
                let (_, _, measured) = coder.nanos(codec, 0.0);
                push(TableKind::EncodeNanos, coder.device, measured, &|cut, _| nanos(cut).0);
                push(TableKind::DecodeNanos, coder.device, measured, &|cut, _| nanos(cut).1);
            }
        }
        tables
    }

    fn applies(&self, codec: &CodecSpec, cut: usize) -> bool {
        !codec.for_input || (self.pixels && cut == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceDescription {
        DeviceDescription {
            index: 1,
            name: "cpu".into(),
            kind: DeviceKind::Cpu,
            fingerprint: String::new(),
            memory_bytes: None,
            threads: 1,
            slowdown: 2.0,
        }
    }

    fn of(tables: &[Table], codec: u8, kind: TableKind) -> &Table {
        tables.iter().find(|t| (t.codec, t.kind) == (codec, kind)).expect("the table is there")
    }

    #[test]
    fn an_image_codec_is_for_images_at_the_input_only() {
        for (pixels, first_is_allowed) in [(true, true), (false, false)] {
            let tables = Codings::new(&[400.0, 80.0, 8.0], pixels, &[&device()], |_| None).tables(3, 7);
            let jpeg = of(&tables, 6, TableKind::CodecLossPpm);
            assert_eq!(jpeg.shape, [3, 4]);
            let forbidden: Vec<bool> = jpeg.values.iter().map(|l| *l >= codecs::LOSS_FORBIDDEN_PPM).collect();
            assert_eq!(forbidden[..4].iter().all(|f| !f), first_is_allowed);
            assert!(forbidden[4..].iter().all(|f| *f), "{jpeg:?}");
        }
    }

    #[test]
    fn times_grow_with_elements_and_slowdown() {
        let tables = Codings::new(&[400.0, 80.0, 0.0], false, &[&device()], |_| None).tables(3, 7);
        let encode = of(&tables, 2, TableKind::EncodeNanos);
        let (per_element, _) = codecs::nanos_per_element_assumed(&bps_codec::codecs()[2], DeviceKind::Cpu);
        assert_eq!(encode.values, [100.0 * per_element * 2.0, 20.0 * per_element * 2.0, 0.0]);
        assert_eq!((encode.device, encode.epoch, encode.model, encode.measured), (1, 3, 7, false));
        assert!(of(&tables, 0, TableKind::CodecLossPpm).values.iter().all(|l| *l == 0.0));
    }

    #[test]
    fn what_was_measured_counts_as_it_is() {
        let timing =
            CodecTiming { codec: 2, encode_nanos_per_element: 3.0, decode_nanos_per_element: 2.0, fixed_nanos: 50.0 };
        let measured = |device| (device == 1).then(|| vec![timing]);
        let tables = Codings::new(&[400.0, 0.0], false, &[&device()], measured).tables(3, 7);
        let (encode, decode) = (of(&tables, 2, TableKind::EncodeNanos), of(&tables, 2, TableKind::DecodeNanos));
        assert_eq!((encode.values.as_slice(), encode.measured), (&[350.0, 0.0][..], true), "slowdown is in it already");
        assert_eq!(decode.values, [250.0, 0.0]);
        assert!(!of(&tables, 4, TableKind::EncodeNanos).measured);
    }
}
