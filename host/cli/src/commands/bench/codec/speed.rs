//! How long codecs take for an activation as large as those of real networks, each beside what it gives for it.
//!
//! The activation is made up: maps of smooth noise, less their median, behind a ReLU, with a little noise on what is left.
//! Tables come from four others of the kind. Every codec goes through all of its settings once; at each error that is asked
//! for it is timed at its coarsest setting that is no worse. Errors are those of the values: there is no model here.

use super::measure::{self, code};
use super::rival::{Listed, Rival};
use super::verdict::middle;
use super::{CodecBenchArgs, one_thread};
use crate::commands::calibrate::net::join;
use crate::output::Output;
use crate::progress;
use crate::table::Table;
use anyhow::{Context, Result, anyhow};
use bps_codec::CodecSpec;
use bps_codec::ff::{self, Mode, Order, Package, RATE_LIST, Weights};
use bps_types::HostTensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::ThreadPool;
use serde::Serialize;

const SHAPE: [usize; 4] = [1, 64, 112, 112];
/// Elements between two independent values of the noise.
const GRAIN: usize = 8;
/// Of the noise on top, relative to the maps' deviation.
const ROUGH: f32 = 0.05;
/// Activations that tables are made from.
const SAMPLES: u64 = 4;
/// Errors of the values at which codecs are timed.
const ERRORS: [f32; 3] = [0.001, 0.01, 0.05];
const NAME: &str = "made-up";

#[derive(Debug, Serialize)]
struct Report {
    shape: [usize; 4],
    bytes: usize,
    zeros: f64,
    rounds: u32,
    figures: Vec<Figure>,
}

/// A codec at an error.
#[derive(Debug, Serialize)]
struct Figure {
    error_at_most: f32,
    codec: String,
    setting: String,
    bits: f64,
    error: f32,
    encode_ms: f64,
    decode_ms: f64,
    /// Encoding and decoding with ff-s over the same with this codec: medians of the rounds' ratios.
    ff_s_over: Option<f64>,
    ff_h_over: Option<f64>,
}

/// Somebody's codec at a setting.
#[derive(Clone)]
enum Way {
    Ours(&'static CodecSpec, u8),
    Of(usize, Listed, String),
}

/// A way, what it gives, and its times in each round.
struct Timed {
    error_at_most: f32,
    way: Way,
    bits: f64,
    error: f32,
    seconds: Vec<(f64, f64)>,
}

/// What a way gives.
struct Gone {
    /// Of an element.
    bits: f64,
    /// Of the values.
    error: f32,
    /// Of encoding and of decoding.
    seconds: (f64, f64),
}

/// What ways need.
struct Stand<'a> {
    activation: HostTensor,
    package: Package,
    one: ThreadPool,
    rivals: &'a mut [Rival],
}

/// Measures and shows.
pub(super) fn run(args: &CodecBenchArgs, out: Output) -> Result<()> {
    let mut rivals = args.rivals.iter().map(|command| Rival::start(command)).collect::<Result<Vec<_>>>()?;
    let samples = (1..=SAMPLES).map(made_up).collect::<Result<Vec<_>>>()?;
    let package = calibrated(&samples)?;
    let joined = join(&samples.iter().collect::<Vec<_>>())?;
    // So large an activation has no directions: FF-C would be FF-H once more.
    let ours = measure::ours().filter(|codec| codec.id != ff::ID_CANCELLING);
    let mut ways = vec![ours.map(settings).collect::<Vec<_>>()];
    for (number, rival) in rivals.iter_mut().enumerate() {
        let listed = rival.fit(&joined, None)?.into_iter().filter(|l| l.timed == measure::LIBRARY);
        let listed = listed.filter(|l| args.only.is_empty() || args.only.contains(&l.name));
        ways.push(
            listed.map(|l| l.settings.clone().into_iter().map(|s| Way::Of(number, l.clone(), s)).collect()).collect(),
        );
    }
    let mut stand = Stand { activation: made_up(0)?, package, one: one_thread()?, rivals: &mut rivals };
    let ways: Vec<Vec<Way>> = ways.into_iter().flatten().collect();
    let bar = progress::bar(ways.len() as u64 + u64::from(args.rounds), "timing");
    let mut timed = Vec::new();
    for settings in ways {
        timed.extend(stand.coarsest(&settings)?);
        bar.inc(1);
    }
    for _ in 0..args.rounds {
        for one in &mut timed {
            // A codec that worked before and now does not is not timed in this round.
            if let Ok(gone) = stand.go(&one.way)? {
                one.seconds.push(gone.seconds);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let values = stand.activation.to_f32()?;
    let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
    let report = Report { shape: SHAPE, bytes: 4 * values.len(), zeros, rounds: args.rounds, figures: figures(&timed) };
    out.emit(&report, text)
}

fn settings(codec: &'static CodecSpec) -> Vec<Way> {
    measure::rates(codec).iter().map(|rate| Way::Ours(codec, *rate)).collect()
}

fn calibrated(samples: &[HostTensor]) -> Result<Package> {
    let model = [0; 32];
    let (modes, rates, weights) = (&Mode::ALL[..], &RATE_LIST[..], &Weights::default());
    let (order, directions) = (Order::Nchw, None);
    let what = ff::Calibration { name: NAME, model, samples, order, modes, rates, weights, directions };
    let cut = ff::calibrate(&what).context("the made-up activation cannot be calibrated")?;
    let best: Vec<Option<Mode>> = (0..ff::RATES as u8).map(|q| cut.best_mode(q)).collect();
    let cut = cut.with_best_and(|q| best.get(usize::from(q)).copied().flatten(), &[Mode::Scalar])?;
    Ok(Package::new(model, vec![cut])?)
}

/// An activation of the kind, another one for each seed.
fn made_up(seed: u64) -> Result<HostTensor> {
    let mut random = ChaCha8Rng::seed_from_u64(0x7370_6565 + seed);
    let mut uniform = move || (random.next_u32() >> 8) as f32 / 16_777_216.0 * 2.0 - 1.0;
    let [_, channels, height, width] = SHAPE;
    let (lines, columns) = (height / GRAIN + 2, width / GRAIN + 2);
    let mut values = Vec::with_capacity(channels * height * width);
    for _ in 0..channels {
        let grid: Vec<f32> = (0..lines * columns).map(|_| uniform()).collect();
        for y in 0..height {
            for x in 0..width {
                let at = |line: usize, column: usize| grid[(y / GRAIN + line) * columns + x / GRAIN + column];
                let (down, across) = ((y % GRAIN) as f32 / GRAIN as f32, (x % GRAIN) as f32 / GRAIN as f32);
                let top = at(0, 0) * (1.0 - across) + at(0, 1) * across;
                let bottom = at(1, 0) * (1.0 - across) + at(1, 1) * across;
                values.push((top * (1.0 - down) + bottom * down + ROUGH * uniform()).max(0.0));
            }
        }
    }
    Ok(HostTensor::from_f32(SHAPE.to_vec(), &values)?)
}

impl Stand<'_> {
    /// There and back. The inner error is the codec's.
    fn go(&mut self, way: &Way) -> Result<Result<Gone, String>> {
        let coded = match way {
            Way::Ours(codec, rate) => code(codec, *rate, &self.activation, &self.package, NAME, &self.one)?,
            Way::Of(number, listed, setting) => {
                let rival = self.rivals.get_mut(*number).context("a rival is missing")?;
                match rival.code(&listed.name, setting, &self.activation)? {
                    Ok(coded) => coded,
                    Err(why) => return Ok(Err(why)),
                }
            }
        };
        let seconds = coded.encode_seconds.zip(coded.decode_seconds);
        let seconds = seconds.ok_or_else(|| anyhow!("{} is timed but gives no times", way.codec()))?;
        let error = error(&self.activation.to_f32()?, &coded.decoded.to_f32()?);
        let bits = coded.bits / self.activation.shape().iter().product::<usize>() as f64;
        Ok(Ok(Gone { bits, error, seconds }))
    }

    /// The coarsest of a codec's settings for each error.
    fn coarsest(&mut self, settings: &[Way]) -> Result<Vec<Timed>> {
        let mut seen = Vec::new();
        for way in settings {
            if let Ok(gone) = self.go(way)? {
                seen.push((way, gone.bits, gone.error));
            }
        }
        let at = |limit: f32| {
            let good = seen.iter().filter(|(_, _, error)| *error <= limit);
            let (way, bits, error) = good.min_by(|a, b| a.1.total_cmp(&b.1))?;
            Some(Timed { error_at_most: limit, way: Way::clone(way), bits: *bits, error: *error, seconds: Vec::new() })
        };
        Ok(ERRORS.into_iter().filter_map(at).collect())
    }
}

impl Way {
    fn codec(&self) -> &str {
        match self {
            Self::Ours(codec, _) => codec.name,
            Self::Of(_, listed, _) => &listed.name,
        }
    }

    fn setting(&self) -> String {
        match self {
            Self::Ours(codec, _) if codec.rates.is_empty() => "-".into(),
            Self::Ours(_, rate) => format!("q{rate}"),
            Self::Of(_, _, setting) => setting.clone(),
        }
    }
}

/// Squared differences over squares.
fn error(clean: &[f32], coded: &[f32]) -> f32 {
    let square = |value: f32| f64::from(value).powi(2);
    let error: f64 = clean.iter().zip(coded).map(|(a, b)| square(a - b)).sum();
    (error / clean.iter().map(|a| square(*a)).sum::<f64>().max(1e-30)) as f32
}

fn figures(timed: &[Timed]) -> Vec<Figure> {
    let both = |one: &Timed| one.seconds.iter().map(|(e, d)| e + d).collect::<Vec<f64>>();
    let over = |name: &str, one: &Timed| {
        let own = timed.iter().find(|t| t.way.codec() == name && t.error_at_most == one.error_at_most)?;
        middle(&both(own).iter().zip(both(one)).map(|(ff, it)| ff / it.max(1e-9)).collect::<Vec<_>>())
    };
    let millis = |seconds: Vec<f64>| middle(&seconds).unwrap_or(0.0) * 1e3;
    let figure = |one: &Timed| Figure {
        error_at_most: one.error_at_most,
        codec: one.way.codec().to_owned(),
        setting: one.way.setting(),
        bits: one.bits,
        error: one.error,
        encode_ms: millis(one.seconds.iter().map(|s| s.0).collect()),
        decode_ms: millis(one.seconds.iter().map(|s| s.1).collect()),
        ff_s_over: over("ff-s", one),
        ff_h_over: over("ff-h", one),
    };
    let mut all: Vec<Figure> = timed.iter().map(figure).collect();
    let both = |f: &Figure| f.encode_ms + f.decode_ms;
    all.sort_by(|a, b| a.error_at_most.total_cmp(&b.error_at_most).then(both(a).total_cmp(&both(b))));
    all
}

fn text(report: &Report) -> String {
    let headings = ["codec", "setting", ">bits", ">error", ">encode", ">decode", ">both", ">ff-s / it", ">ff-h / it"];
    let mut text = String::new();
    for limit in ERRORS {
        let mut table = Table::new(&headings);
        for f in report.figures.iter().filter(|f| f.error_at_most == limit) {
            let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |r| format!("{r:.3}"));
            let millis = |ms: f64| format!("{ms:.2} ms");
            table.row([
                f.codec.clone(),
                f.setting.clone(),
                format!("{:.2}", f.bits),
                format!("{:.1e}", f.error),
                millis(f.encode_ms),
                millis(f.decode_ms),
                millis(f.encode_ms + f.decode_ms),
                ratio(f.ff_s_over),
                ratio(f.ff_h_over),
            ]);
        }
        text += &format!("relative squared error of the values at most {limit}\n{table}\n");
    }
    let [_, channels, height, width] = report.shape;
    text + &format!(
        "made-up activation of {channels} x {height} x {width}, {:.0} % zeros; medians of {} rounds in which all took turns; \
         one thread\ntimes are of the codecs' calls alone: what turns an activation into a mosaic of bytes for JPEG and \
         WebP, or into\nshuffled bytes for zstd and lz4, is not counted; FF's times hold everything\n",
        100.0 * report.zeros,
        report.rounds,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_activation_is_smooth_and_half_of_it_zeros() {
        let first = made_up(0).unwrap();
        assert!(first == made_up(0).unwrap() && first != made_up(1).unwrap());
        let values = first.to_f32().unwrap();
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
        assert!((0.4..0.6).contains(&zeros), "{zeros}");
        let steps: f64 = values.windows(2).map(|w| f64::from(w[0] - w[1]).powi(2)).sum();
        let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert!(steps < 0.2 * squares, "neighbours are alike: {steps} of {squares}");
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let of = |name: &str, seconds: [f64; 3]| Timed {
            error_at_most: 0.01,
            way: Way::Of(
                0,
                Listed { name: name.into(), settings: Vec::new(), ideal: false, timed: "library".into() },
                "1".into(),
            ),
            bits: 1.0,
            error: 0.01,
            seconds: seconds.map(|s| (s / 4.0, s * 3.0 / 4.0)).to_vec(),
        };
        // The machine halves its speed in the last round.
        let figures = figures(&[of("jpeg", [0.01, 0.01, 0.02]), of("ff-s", [0.002, 0.002, 0.004])]);
        assert_eq!((figures[0].codec.as_str(), figures[1].codec.as_str()), ("ff-s", "jpeg"));
        let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-9);
        assert!(near(figures[1].ff_s_over, 0.2) && figures[1].ff_h_over.is_none(), "{figures:?}");
        assert!(near(Some(figures[1].encode_ms), 2.5) && near(Some(figures[1].decode_ms), 7.5), "{figures:?}");
    }
}
