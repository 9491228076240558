//! What encoding and decoding cost at each cut of one model: size, accuracy, time on each device.

use crate::codecs;
use bps_codec::ff::{Curve, CutPackage, ID_CANCELLING, ID_SCALAR, curve_for};
use bps_codec::{CodecSpec, CodecTiming, Layout};
use bps_engine::DeviceDescription;
use bps_types::policy::{DeviceKind, Table, TableKind};
use std::collections::BTreeMap;

/// Bytes of an element before it is encoded.
const ELEMENT_BYTES: f32 = 4.0;

/// What is needed to make the tables.
pub(super) struct Codings {
    /// Elements of one row that cross each cut.
    elements: Vec<f32>,
    /// Whether the input is an image, which an image codec can encode.
    pixels: bool,
    /// The codecs that the model may use.
    codecs: Vec<&'static CodecSpec>,
    devices: Vec<Coder>,
    /// What calibration found, by codec, cut and rate.
    calibrated: BTreeMap<u8, Vec<Option<Vec<Option<Found>>>>>,
}

/// What calibration found of a codec at a cut and a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    /// Bits an element; none where frames are made another way than those that were measured.
    bits: Option<f32>,
    loss_ppm: f32,
}

/// The values that cross a cut, each with what it was calibrated with and its elements; none where one has nothing.
pub(super) type CutValues<'a> = Option<Vec<(&'a CutPackage, f32)>>;

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
    /// `cut_bytes` are those of one row, unencoded; `timings` what was measured of a device, if anything. Of a codec that
    /// is not among `codecs` policies learn neither size nor loss, so they leave it alone.
    pub(super) fn new(
        cut_bytes: &[f32],
        pixels: bool,
        codecs: Vec<&'static CodecSpec>,
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
            codecs,
            devices: devices.iter().map(coder).collect(),
            calibrated: BTreeMap::new(),
        }
    }

    /// With what calibration found, by cut. Of codecs that lose nothing there is only a size to know, and transfers tell
    /// that soon enough; raw's is no secret.
    pub(super) fn with_calibration(mut self, cuts: &[CutValues<'_>]) -> Self {
        for codec in self.codecs.iter().filter(|codec| codec.id != bps_codec::RAW) {
            let at = |values: &CutValues<'_>| {
                let rates = codecs::columns(codec).iter();
                values.as_ref().map(|values| {
                    let mut found: Vec<_> = rates.map(|rate| found(codec, *rate, values)).collect();
                    never_less(&mut found, codec.layout);
                    found
                })
            };
            self.calibrated.insert(codec.id, cuts.iter().map(at).collect());
        }
        self
    }

    /// Sizes and losses are assumptions, or what calibration found where frames are made with that; transfers correct
    /// the sizes.
    pub(super) fn tables(&self, epoch: u32, model: u32, calibrated: bool) -> Vec<Table> {
        let mut tables = Vec::new();
        for &codec in &self.codecs {
            let rates = codecs::columns(codec);
            // Frames of other codecs are the same whether the other host has the calibration or not.
            let is_shared = calibrated || codec.layout != Layout::Ff;
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
            let found = |cut: usize, rate: u8| {
                let column = rates.iter().position(|r| *r == rate)?;
                self.calibrated.get(&codec.id).filter(|_| is_shared)?.get(cut)?.as_ref()?[column]
            };
            let cuts = self.calibrated.get(&codec.id).into_iter().flatten();
            let measured = is_shared && cuts.flatten().flatten().any(Option::is_some);
            push(TableKind::CodecBits, 0, measured, &|cut, rate| {
                let bits = found(cut, rate).and_then(|found| found.bits);
                bits.unwrap_or_else(|| codec.bits_per_element_assumed(rate))
            });
            push(TableKind::CodecLossPpm, 0, measured, &|cut, rate| match found(cut, rate) {
                _ if !self.applies(codec, cut) => codecs::LOSS_FORBIDDEN_PPM,
                Some(found) => found.loss_ppm,
                // Without directions it is FF-H that is thought to take longer.
                None if codec.id == ID_CANCELLING => codecs::LOSS_FORBIDDEN_PPM,
                None => codec.loss_ppm_assumed(rate) as f32,
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

/// A coarser rate never counts as losing less than a finer one: where fewer rows happened to differ, that was chance. FF's
/// rates grow coarser, JPEG's finer.
fn never_less(rates: &mut [Option<Found>], layout: Layout) {
    if layout == Layout::Jpeg {
        rates.reverse();
    }
    let mut most = 0.0f32;
    for found in rates.iter_mut().flatten() {
        most = most.max(found.loss_ppm);
        found.loss_ppm = most;
    }
    if layout == Layout::Jpeg {
        rates.reverse();
    }
}

/// The sum of what the values of a cut cost. A loss counts with the upper end of its interval: what is promised holds.
/// Without one the greatest of what is known stands for it: the squared errors of the values and of the outputs, and what is
/// assumed without calibration.
fn found(codec: &CodecSpec, rate: u8, values: &[(&CutPackage, f32)]) -> Option<Found> {
    if codec.id == ID_CANCELLING && values.iter().all(|(package, _)| package.cancelling().is_none()) {
        return None;
    }
    let one = |(package, elements): &(&CutPackage, f32)| Some((curve_for(codec.id, rate, package)?, *elements));
    let curves: Vec<(Curve, f32)> = values.iter().map(one).collect::<Option<_>>()?;
    let elements = curves.iter().map(|(_, elements)| elements).sum::<f32>().max(1.0);
    let bits = curves.iter().map(|(curve, elements)| curve.bits_mean * elements).sum::<f32>() / elements;
    let unknown = |curve: &Curve| curve.nmse.max(curve.output_nmse.unwrap_or(0.0)) * 1e6;
    let assumed = codec.loss_ppm_assumed(rate) as f32;
    let loss = |curve: &Curve| match curve.loss {
        Some(loss) if loss.high.is_nan() => codecs::LOSS_FORBIDDEN_PPM,
        Some(loss) => loss.high.max(0.0) * 1e6,
        None => unknown(curve).max(assumed),
    };
    Some(Found {
        // Curves tell of contexts and rANS.
        bits: (codec.id != ID_SCALAR).then_some(bits),
        loss_ppm: curves.iter().map(|(curve, _)| loss(curve)).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_codec::ff::{Directions, ID_HAAR};

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

    fn all() -> Vec<&'static CodecSpec> {
        bps_codec::codecs().iter().collect()
    }

    fn of(tables: &[Table], codec: u8, kind: TableKind) -> &Table {
        tables.iter().find(|t| (t.codec, t.kind) == (codec, kind)).expect("the table is there")
    }

    #[test]
    fn an_image_codec_is_for_images_at_the_input_only() {
        for (pixels, first_is_allowed) in [(true, true), (false, false)] {
            let tables = Codings::new(&[400.0, 80.0, 8.0], pixels, all(), &[&device()], |_| None).tables(3, 7, false);
            let jpeg = of(&tables, 6, TableKind::CodecLossPpm);
            assert_eq!(jpeg.shape, [3, 4]);
            let forbidden: Vec<bool> = jpeg.values.iter().map(|l| *l >= codecs::LOSS_FORBIDDEN_PPM).collect();
            assert_eq!(forbidden[..4].iter().all(|f| !f), first_is_allowed);
            assert!(forbidden[4..].iter().all(|f| *f), "{jpeg:?}");
        }
    }

    #[test]
    fn times_grow_with_elements_and_slowdown() {
        let tables = Codings::new(&[400.0, 80.0, 0.0], false, all(), &[&device()], |_| None).tables(3, 7, false);
        let encode = of(&tables, 2, TableKind::EncodeNanos);
        let (per_element, _) = codecs::nanos_per_element_assumed(&bps_codec::codecs()[2], DeviceKind::Cpu);
        assert_eq!(encode.values, [100.0 * per_element * 2.0, 20.0 * per_element * 2.0, 0.0]);
        assert_eq!((encode.device, encode.epoch, encode.model, encode.measured), (1, 3, 7, false));
        assert!(of(&tables, 0, TableKind::CodecLossPpm).values.iter().all(|l| *l == 0.0));
    }

    #[test]
    fn of_a_codec_that_the_model_may_not_use_nothing_is_told() {
        let some = bps_codec::codecs().iter().filter(|c| c.name == "raw" || c.name == "int8").collect();
        let tables = Codings::new(&[400.0, 80.0], true, some, &[&device()], |_| None).tables(3, 7, false);
        let told: std::collections::BTreeSet<u8> = tables.iter().map(|t| t.codec).collect();
        assert_eq!(told.into_iter().collect::<Vec<_>>(), [0, 4]);
    }

    #[test]
    fn a_calibration_takes_the_place_of_assumptions_where_it_is_shared() {
        let values: Vec<f32> = (0..4 * 36).map(|i| (i as f32 * 0.37).sin().max(0.0)).collect();
        let sample = bps_types::HostTensor::from_f32(vec![4, 1, 6, 6], &values).unwrap();
        let what = bps_codec::ff::Calibration {
            name: "x",
            model: [1; 32],
            samples: &[sample],
            order: bps_codec::ff::Order::Nchw,
            modes: &[bps_codec::ff::Mode::Haar1],
            rates: &[8, 16],
            weights: &bps_codec::ff::Weights::default(),
            directions: None,
        };
        let calibrated = |directions| {
            let package = bps_codec::ff::calibrate(&bps_codec::ff::Calibration { directions, ..what }).unwrap();
            let loss = bps_codec::ff::Loss { mean: 0.001, low: 0.0, high: 0.002 };
            package.with_losses(|_, q| (q == 16).then_some(loss)).unwrap()
        };
        let package = calibrated(None);
        let curve = |q| package.curve(bps_codec::ff::Mode::Haar1, q).unwrap();
        let codings = || Codings::new(&[400.0, 144.0, 8.0], false, all(), &[&device()], |_| None);
        let with = |package| codings().with_calibration(&[None, Some(vec![(package, 36.0)]), None]);
        let cell = |table: &Table, cut: usize, q: u8| (table.values[cut * 16 + usize::from(q) / 2], table.measured);
        let at = |tables: &[Table], kind, cut: usize, q: u8| cell(of(tables, ID_HAAR, kind), cut, q);
        let assumed = bps_codec::spec(ID_HAAR).unwrap();
        let tables = with(&package).tables(3, 7, true);
        let cancelling = of(&tables, ID_CANCELLING, TableKind::CodecLossPpm);
        assert!(cancelling.values.iter().all(|loss| *loss >= codecs::LOSS_FORBIDDEN_PPM), "no directions were found");
        let directions = Directions::made_up(&[1, 1, 6, 6], 3).unwrap();
        let both = package.clone().with_cancelling(calibrated(Some(&directions))).unwrap();
        let beside = both.cancelling().and_then(|beside| beside.curve(bps_codec::ff::Mode::Haar1, 16)).unwrap();
        let told = with(&both).tables(3, 7, true);
        assert_eq!(at(&told, TableKind::CodecBits, 1, 16), (curve(16).bits_mean, true), "of rounding, as before");
        assert_eq!(cell(of(&told, ID_CANCELLING, TableKind::CodecBits), 1, 16), (beside.bits_mean, true));
        let lost = |cut| cell(of(&told, ID_CANCELLING, TableKind::CodecLossPpm), cut, 16).0;
        // Of rate 8 no loss was measured, its error stands for that; and a coarser rate loses no less.
        let finer = both.cancelling().and_then(|beside| beside.curve(bps_codec::ff::Mode::Haar1, 8)).unwrap();
        assert_eq!((lost(1), lost(0)), (2_000f32.max(finer.nmse * 1e6), codecs::LOSS_FORBIDDEN_PPM));
        assert_eq!(at(&tables, TableKind::CodecBits, 1, 16), (curve(16).bits_mean, true));
        assert_eq!(at(&tables, TableKind::CodecLossPpm, 1, 16).0.round(), 2_000.0, "the upper end");
        let unmeasured = (curve(8).nmse * 1e6).max(assumed.loss_ppm_assumed(8) as f32);
        assert_eq!(at(&tables, TableKind::CodecLossPpm, 1, 8).0, unmeasured, "no loss was measured");
        for (cut, q) in [(1, 18), (0, 16), (2, 16)] {
            let bits = at(&tables, TableKind::CodecBits, cut, q).0;
            assert_eq!(bits, assumed.bits_per_element_assumed(q), "cut {cut}, rate {q}: nothing was calibrated");
        }
        let alone = with(&package).tables(3, 7, false);
        assert_eq!(at(&alone, TableKind::CodecBits, 1, 16), (assumed.bits_per_element_assumed(16), false));
    }

    #[test]
    fn a_lucky_coarse_rate_is_not_believed() {
        let of = |loss_ppm| Some(Found { bits: None, loss_ppm });
        let losses = |layout| {
            let mut rates = [of(10.0), None, of(400.0), of(50.0), of(900.0)];
            never_less(&mut rates, layout);
            rates.map(|found| found.map(|found| found.loss_ppm))
        };
        assert_eq!(losses(Layout::Ff), [Some(10.0), None, Some(400.0), Some(400.0), Some(900.0)]);
        assert_eq!(losses(Layout::Jpeg), [Some(900.0), None, Some(900.0), Some(900.0), Some(900.0)]);
    }

    #[test]
    fn what_was_measured_counts_as_it_is() {
        let timing =
            CodecTiming { codec: 2, encode_nanos_per_element: 3.0, decode_nanos_per_element: 2.0, fixed_nanos: 50.0 };
        let measured = |device| (device == 1).then(|| vec![timing]);
        let tables = Codings::new(&[400.0, 0.0], false, all(), &[&device()], measured).tables(3, 7, false);
        let (encode, decode) = (of(&tables, 2, TableKind::EncodeNanos), of(&tables, 2, TableKind::DecodeNanos));
        assert_eq!((encode.values.as_slice(), encode.measured), (&[350.0, 0.0][..], true), "slowdown is in it already");
        assert_eq!(decode.values, [250.0, 0.0]);
        assert!(!of(&tables, 4, TableKind::EncodeNanos).measured);
    }
}
