//! Sends the rows of a value through every codec, and on through the rest of the model.

use super::line::{Line, Point};
use super::rival::{Coded, Listed, Rival};
use crate::commands::calibrate::measure::{Judged, Trial};
use crate::latency::median;
use anyhow::{Context, Result};
use bps_codec::ff::Package;
use bps_codec::{CodecSpec, codecs, decode_with, encode_with};
use bps_types::{DataType, HostTensor};
use rayon::ThreadPool;
use std::time::Instant;

/// What says that a program's times are those of a library.
pub(super) const LIBRARY: &str = "library";

/// Rows that are sent together, and what becomes of what arrives.
pub(super) struct Course<'a> {
    /// Rows of a value, some in each message.
    pub(super) messages: &'a [HostTensor],
    /// Elements of all of them.
    pub(super) elements: usize,
    /// Tells what decoded rows do to the model's answers.
    pub(super) judge: &'a dyn Fn(&[HostTensor]) -> Result<Judged>,
}

/// Decoded rows behind a value, as a judge.
pub(super) fn behind<'a>(trial: &'a Trial<'_>) -> impl Fn(&[HostTensor]) -> Result<Judged> + 'a {
    |messages| trial.judged(&rows_of(messages))
}

/// Each row by itself.
pub(super) fn rows_of(messages: &[HostTensor]) -> Vec<HostTensor> {
    messages.iter().flat_map(|m| (0..m.rows()).map(move |row| m.slice_rows(row..row + 1))).collect()
}

/// Codecs of bps for activations.
pub(super) fn ours() -> impl Iterator<Item = &'static CodecSpec> {
    codecs().iter().filter(|codec| codec.takes(DataType::Fp32) && !codec.for_input)
}

/// There and back with a codec of bps, on this thread alone.
pub(super) fn code(
    codec: &CodecSpec,
    rate: u8,
    rows: &HostTensor,
    package: &Package,
    name: &str,
    one: &ThreadPool,
) -> Result<Coded> {
    one.install(|| {
        let begin = Instant::now();
        let packed = encode_with(codec.id, rate, rows, package.cut(name))?;
        let encode_seconds = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let decoded = decode_with(&packed, rows.shape(), Some(package))?;
        let decode_seconds = begin.elapsed().as_secs_f64();
        let bits = 8.0 * packed.data.len() as f64;
        Ok(Coded { bits, encode_seconds: Some(encode_seconds), decode_seconds: Some(decode_seconds), decoded })
    })
}

/// The rates of a codec; 0 where there is none.
pub(super) fn rates(codec: &CodecSpec) -> &'static [u8] {
    if codec.rates.is_empty() { &[0] } else { codec.rates }
}

impl Course<'_> {
    /// A codec of bps at all rates.
    pub(super) fn of_ours(&self, codec: &CodecSpec, package: &Package, name: &str, one: &ThreadPool) -> Result<Line> {
        let mut points = Vec::new();
        for rate in rates(codec) {
            let coded = self.messages.iter().map(|rows| code(codec, *rate, rows, package, name, one));
            let coded = coded.collect::<Result<Vec<_>>>().with_context(|| format!("{} at rate {rate}", codec.name))?;
            let setting = if codec.rates.is_empty() { "-".to_owned() } else { format!("q{rate}") };
            points.push(self.point(setting, coded, true)?);
        }
        Ok(Line { codec: codec.name.into(), ours: true, ideal: false, points, refused: Vec::new() })
    }

    /// A codec of another program at all settings.
    pub(super) fn of_rival(&self, rival: &mut Rival, listed: &Listed) -> Result<Line> {
        let (mut points, mut refused) = (Vec::new(), Vec::new());
        'settings: for setting in &listed.settings {
            let mut coded = Vec::with_capacity(self.messages.len());
            for rows in self.messages {
                match rival.code(&listed.name, setting, rows)? {
                    Ok(one) => coded.push(one),
                    Err(why) => {
                        refused.push(format!("{setting}: {why}"));
                        continue 'settings;
                    }
                }
            }
            points.push(self.point(setting.clone(), coded, listed.timed == LIBRARY)?);
        }
        Ok(Line { codec: listed.name.clone(), ours: false, ideal: listed.ideal, points, refused })
    }

    fn point(&self, setting: String, coded: Vec<Coded>, timed: bool) -> Result<Point> {
        let micros = |seconds: fn(&Coded) -> Option<f64>| {
            let each = coded.iter().map(|one| Some(seconds(one)? * 1e6 / one.decoded.rows().max(1) as f64));
            if timed { each.collect::<Option<Vec<f64>>>().and_then(|all| median(&all)) } else { None }
        };
        let (encode_us, decode_us) = (micros(|one| one.encode_seconds), micros(|one| one.decode_seconds));
        let bits = coded.iter().map(|one| one.bits).sum::<f64>() / self.elements.max(1) as f64;
        let decoded: Vec<HostTensor> = coded.into_iter().map(|one| one.decoded).collect();
        let Judged { output_nmse, loss, .. } = (self.judge)(&decoded)?;
        let loss = loss.map(|loss| [loss.mean, loss.low, loss.high]);
        Ok(Point { setting, bits: bits as f32, output_nmse, loss, encode_us, decode_us })
    }
}
