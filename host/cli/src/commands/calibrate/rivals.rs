//! What codecs that need no calibration do to a value: their sizes, and what is lost with them, seen on the same rows as
//! FF's. Without it a host counts with what is assumed of every model, and an assumption wins or loses against a measurement.

use super::measure::{Effect, Judged, Sizes, Trial};
use super::pooled::Pooled;
use anyhow::Result;
use bps_codec::ff::{Curve, Rival};
use bps_codec::{CodecSpec, Layout, PixelShape, codecs, denormalize, normalized};
use bps_engine::PixelInput;
use bps_types::{DataType, HostTensor};

/// Codecs that lay elements out alike, and so lose alike, at a rate.
struct Family {
    codecs: Vec<&'static CodecSpec>,
    rate: u8,
}

/// What one of them does.
pub(super) struct Measured {
    pub(super) codec: u8,
    rate: u8,
    pub(super) effect: Effect,
    nmse: f32,
}

/// How often the rest of the model runs for a value.
pub(super) fn runs(pixels: Option<&PixelInput>) -> usize {
    families(pixels).filter(|family| family.codecs.iter().any(|codec| !codec.lossless)).count()
}

/// Families without FF's; JPEG is for images.
fn families(pixels: Option<&PixelInput>) -> impl Iterator<Item = Family> {
    let layouts = [Layout::Plain, Layout::F16, Layout::Int8, Layout::Jpeg];
    let of = move |layout: Layout| {
        let codecs: Vec<_> = codecs().iter().filter(|codec| codec.layout == layout).collect();
        let rates = codecs.first().map_or(&[][..], |codec| codec.rates);
        let rates = if rates.is_empty() { vec![0] } else { rates.to_vec() };
        rates.into_iter().map(move |rate| Family { codecs: codecs.clone(), rate })
    };
    layouts.into_iter().filter(move |layout| *layout != Layout::Jpeg || pixels.is_some()).flat_map(of)
}

/// Sends the rows of a trial through each. `pixels` where the value is the model's image.
pub(super) fn measure(trial: &Trial<'_>, pixels: Option<&PixelInput>) -> Result<Vec<Measured>> {
    let mut found = Vec::new();
    for Family { codecs, rate } in families(pixels) {
        let coded = |codec: &CodecSpec, value: &HostTensor| match pixels.filter(|_| codec.layout == Layout::Jpeg) {
            Some(pixels) => as_image(codec.id, rate, value, pixels),
            None => {
                let packed = bps_codec::encode(codec.id, rate, value)?;
                Ok((bps_codec::decode(&packed, value.shape())?, packed.data.len()))
            }
        };
        let Some((first, others)) = codecs.split_first() else { continue };
        let (values, sizes) = trial.through(|value| coded(first, value))?;
        // What loses nothing need not run.
        let nothing = Judged { output_nmse: 0.0, loss: None, changed: 0 };
        let judged = if first.lossless { nothing } else { trial.judged(&values)? };
        let nmse = trial.error_of(&values)?;
        let mut enter = |codec: &CodecSpec, sizes: Sizes| {
            found.push(Measured { codec: codec.id, rate, effect: Effect::of(sizes, judged), nmse });
        };
        enter(first, sizes);
        for other in others {
            let (_, sizes) = trial.through(|value| coded(other, value))?;
            enter(other, sizes);
        }
    }
    Ok(found)
}

/// An image on its way: the bytes a camera gives are what JPEG takes.
fn as_image(codec: u8, quality: u8, value: &HostTensor, pixels: &PixelInput) -> Result<(HostTensor, usize)> {
    let &[rows, channels, height, width] = value.shape() else { anyhow::bail!("an image has four extents") };
    let shape = PixelShape { rows, height, width, channels };
    let bytes = denormalize(&value.to_f32()?, shape, &pixels.mean, &pixels.scale)?;
    let image = HostTensor::new(DataType::Uint8, vec![rows, height, width, channels], bytes.into())?;
    let packed = bps_codec::encode(codec, quality, &image)?;
    let image = bps_codec::decode(&packed, image.shape())?;
    Ok((normalized(&image, &pixels.mean, &pixels.scale)?, packed.data.len()))
}

impl Measured {
    /// For the package. Where no row changed, and other codecs do not tell how few would, the rows say less than what is
    /// assumed of the codec: then there is no loss here.
    pub(super) fn rival(&self, pooled: Option<Pooled>) -> Rival {
        let Effect { bits, bits_p95, output_nmse, loss, changed } = self.effect;
        let loss = loss.filter(|_| changed > 0 || pooled.is_some());
        let loss = loss.map(|loss| pooled.map_or(loss, |pooled| pooled.tightened(loss, output_nmse)));
        let curve = Curve { bits_mean: bits, bits_p95, nmse: self.nmse, output_nmse: Some(output_nmse), loss };
        Rival { codec: self.codec, rate: self.rate, curve }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_codec::ff::Loss;

    #[test]
    fn every_codec_but_ff_is_a_rival_once_at_each_rate() {
        let pixels = PixelInput { input: 0, height: 8, width: 8, channels: 3, mean: vec![0.0; 3], scale: vec![1.0; 3] };
        for (pixels, runs_wanted) in [(None, 2), (Some(&pixels), 6)] {
            assert_eq!(runs(pixels), runs_wanted);
            let listed: Vec<(u8, u8)> =
                families(pixels).flat_map(|f| f.codecs.into_iter().map(move |c| (c.id, f.rate))).collect();
            let is_told = |codec: &&CodecSpec| codec.layout != Layout::Ff && (pixels.is_some() || !codec.for_input);
            let wanted: usize = codecs().iter().filter(is_told).map(|codec| codec.rates.len().max(1)).sum();
            let mut once = listed.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!((listed.len(), once.len()), (wanted, wanted), "{listed:?}");
        }
    }

    #[test]
    fn few_rows_do_not_speak_against_what_is_assumed() {
        let loss = Loss { mean: 0.0, low: -0.05, high: 0.05 };
        let effect = |changed| Effect { bits: 8.0, bits_p95: 8.0, output_nmse: 1e-5, loss: Some(loss), changed };
        let of = |changed| Measured { codec: 4, rate: 0, effect: effect(changed), nmse: 1e-5 };
        assert_eq!(of(0).rival(None).curve.loss, None);
        assert_eq!(of(1).rival(None).curve.loss, Some(loss), "a row that changed does");
        let coarse = Effect { output_nmse: 0.01, ..effect(20) };
        let law = Pooled::of(&[&coarse], 512);
        let told = of(0).rival(law).curve.loss.expect("all rates together tell");
        assert!(told.high < 0.01 && told.mean == 0.0, "{told:?}");
    }
}
