//! What encoding and decoding cost at each cut of one model: size, accuracy, time on each device.

use crate::codecs;
use bps_codec::CodecSpec;
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
}

impl Codings {
    /// `cut_bytes` are those of one row, unencoded.
    pub(super) fn new(cut_bytes: &[f32], pixels: bool, devices: &[&DeviceDescription]) -> Self {
        let coder =
            |d: &&DeviceDescription| Coder { device: d.index as u32, kind: d.kind, slowdown: d.slowdown.max(1.0) };
        Self {
            elements: cut_bytes.iter().map(|b| b / ELEMENT_BYTES).collect(),
            pixels,
            devices: devices.iter().map(coder).collect(),
        }
    }

    /// All of them are assumptions: transfers and executions correct what they touch.
    pub(super) fn tables(&self, epoch: u32, model: u32) -> Vec<Table> {
        let mut tables = Vec::new();
        for codec in bps_codec::codecs() {
            let rates = codecs::columns(codec);
            let mut push = |kind, device, value: &dyn Fn(usize, u8) -> f32| {
                let cells = (0..self.elements.len()).flat_map(|cut| rates.iter().map(move |rate| (cut, *rate)));
                tables.push(Table {
                    epoch,
                    model,
                    device,
                    codec: codec.id,
                    kind,
                    measured: false,
                    shape: vec![self.elements.len() as u32, rates.len() as u32],
                    values: cells.map(|(cut, rate)| value(cut, rate)).collect(),
                });
            };
            push(TableKind::CodecBits, 0, &|_, rate| codec.bits_per_element_assumed(rate));
            push(TableKind::CodecLossPpm, 0, &|cut, rate| {
                if self.applies(codec, cut) { codec.loss_ppm_assumed(rate) as f32 } else { codecs::LOSS_FORBIDDEN_PPM }
            });
            for coder in &self.devices {
                let (encode, decode) = codecs::nanos_per_element_assumed(codec, coder.kind);
                let row = |cut: usize, nanos: f32| self.elements[cut] * nanos * coder.slowdown;
                push(TableKind::EncodeNanos, coder.device, &|cut, _| row(cut, encode));
                push(TableKind::DecodeNanos, coder.device, &|cut, _| row(cut, decode));
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
            let tables = Codings::new(&[400.0, 80.0, 8.0], pixels, &[&device()]).tables(3, 7);
            let jpeg = of(&tables, 6, TableKind::CodecLossPpm);
            assert_eq!(jpeg.shape, [3, 4]);
            let forbidden: Vec<bool> = jpeg.values.iter().map(|l| *l >= codecs::LOSS_FORBIDDEN_PPM).collect();
            assert_eq!(forbidden[..4].iter().all(|f| !f), first_is_allowed);
            assert!(forbidden[4..].iter().all(|f| *f), "{jpeg:?}");
        }
    }

    #[test]
    fn times_grow_with_elements_and_slowdown() {
        let tables = Codings::new(&[400.0, 80.0, 0.0], false, &[&device()]).tables(3, 7);
        let encode = of(&tables, 2, TableKind::EncodeNanos);
        let (per_element, _) = codecs::nanos_per_element_assumed(&bps_codec::codecs()[2], DeviceKind::Cpu);
        assert_eq!(encode.values, [100.0 * per_element * 2.0, 20.0 * per_element * 2.0, 0.0]);
        assert_eq!((encode.device, encode.epoch, encode.model, encode.measured), (1, 3, 7, false));
        assert!(of(&tables, 0, TableKind::CodecLossPpm).values.iter().all(|l| *l == 0.0));
    }
}
