//! The comparison: the model's values through every codec.

use super::CodecBenchArgs;
use super::line::{Line, Point};
use super::measure::{self, Course};
use super::report::{self, Report, ValueReport};
use super::rival::Rival;
use crate::commands::calibrate::data::even;
use crate::commands::calibrate::loss::{Answer, output_error};
use crate::commands::calibrate::measure::{Judged, Trial, answers, shaped};
use crate::commands::calibrate::net::{Place, Row, join};
use crate::commands::calibrate::probe;
use crate::commands::calibrate::subject::{Named, Subject};
use crate::commands::codec::read_file;
use crate::exit::usage;
use crate::model_file;
use crate::progress;
use crate::table;
use anyhow::{Context, Result, bail};
use bps_codec::ff::{Mode, PACKAGE_BYTES_MAX, Package};
use bps_types::{DataType, HostTensor};
use rayon::ThreadPool;
use std::path::Path;

/// Rows that channel weights for rivals are measured with, as many as calibration takes for FF's.
const PROBE_ROWS: usize = 16;

/// What all values have in common.
struct Field<'a> {
    args: &'a CodecBenchArgs,
    subject: &'a Subject,
    /// Answers of the test rows without a codec.
    clean: Vec<Answer>,
    one: ThreadPool,
}

/// Measures and judges.
pub(super) fn run(args: &CodecBenchArgs, model: &Path) -> Result<Report> {
    let onnx = model_file::onnx_of(model);
    // Programs that do not start say so before minutes of calibration.
    let mut rivals = args.rivals.iter().map(|command| Rival::start(command)).collect::<Result<Vec<_>>>()?;
    let mut subject = Subject::load(&Named {
        onnx: &onnx,
        data: args.data.as_deref(),
        labels: args.labels.as_deref(),
        rows: args.rows as usize,
        device: &args.device,
    })?;
    if let Some(few) = args.calibration_rows {
        let some = even(subject.calibration.len(), few as usize).map(|at| subject.calibration[at]);
        subject.calibration = some.collect();
    }
    let places = chosen(&subject, &args.at)?;
    let bar = progress::bar(2 * places.len() as u64, "calibrating");
    let (package, ff) = calibrated(args, &subject, &places, &|| bar.inc(1))?;
    bar.set_position(places.len() as u64);
    let clean = answers(&subject.net.whole(&subject.rows(&subject.tests))?)?;
    let field = Field { args, subject: &subject, clean, one: super::one_thread()? };
    let inputs = field.inputs(&mut rivals)?;
    let mut values = Vec::with_capacity(places.len());
    for place in &places {
        bar.set_message(table::clean(&place.name));
        let lines = field.value(place, &package, &mut rivals).with_context(|| format!("value {}", place.name))?;
        values.push(ValueReport::new(place.name.clone(), place.cut, place.shape.clone(), lines, &inputs));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Report {
        source: subject.source.clone(),
        calibration_rows: subject.calibration.len(),
        test_rows: subject.tests.len(),
        batch: field.batch(),
        loss_by: subject.judge.name(),
        ff,
        rivals: args.rivals.clone(),
        summaries: report::summaries(&values),
        times: report::times(&values),
        lost: report::lost(&values),
        values,
        inputs,
    })
}

fn chosen(subject: &Subject, names: &[String]) -> Result<Vec<Place>> {
    let (places, _) = subject.net.places();
    if let Some(stranger) = names.iter().find(|name| !places.iter().any(|place| place.name == **name)) {
        let known: Vec<String> = places.iter().map(|place| table::clean(&place.name)).collect();
        return Err(usage(format!("--at {stranger}: no such value; there are {}", known.join(", "))));
    }
    // The input has a comparison of its own, with codecs for images.
    let wanted = |place: &Place| if names.is_empty() { place.cut > 0 } else { names.contains(&place.name) };
    Ok(places.into_iter().filter(wanted).collect())
}

/// FF's package, and in words where it is from. A new one sees none of the test rows: half of the calibration rows make
/// tables, the other half choose modes.
fn calibrated(
    args: &CodecBenchArgs,
    subject: &Subject,
    places: &[Place],
    done: &dyn Fn(),
) -> Result<(Package, String)> {
    let digest = subject.net.graph().digest;
    if let Some(file) = &args.ff {
        let bytes = read_file(file, PACKAGE_BYTES_MAX)?;
        let package = Package::from_bytes(&bytes).with_context(|| format!("{} is no calibration", file.display()))?;
        if *package.model() != digest {
            bail!("{} is the calibration of another model", file.display());
        }
        return Ok((package, format!("{}, whose rows may be among those of the test", file.display())));
    }
    let (tables, choosing): (Vec<(usize, usize)>, _) =
        subject.calibration.iter().copied().enumerate().partition(|(at, _)| at % 2 == 0);
    let numbers = |rows: Vec<(usize, usize)>| rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>();
    let (tables, choosing) = (numbers(tables), numbers(choosing));
    let seconds = f64::from(args.seconds) / places.len().max(1) as f64;
    let bench = subject.bench(&tables, &choosing, args.probes as usize, seconds)?;
    let mut cuts = Vec::with_capacity(places.len());
    for place in places {
        cuts.push(bench.value(place, &|_| ()).with_context(|| format!("value {}", place.name))?.package);
        done();
    }
    let origin = format!("tables of {} calibration rows, modes chosen with the other {}", tables.len(), choosing.len());
    Ok((Package::new(digest, cuts)?, origin))
}

impl Field<'_> {
    /// Rows of a message.
    fn batch(&self) -> usize {
        self.args.batch as usize
    }

    fn wanted(&self, codec: &str) -> bool {
        self.args.only.is_empty() || self.args.only.iter().any(|name| name == codec)
    }

    /// All lines of a value.
    fn value(&self, place: &Place, package: &Package, rivals: &mut [Rival]) -> Result<Vec<Line>> {
        let net = &self.subject.net;
        let fit = net.head(&self.subject.rows(&self.subject.calibration), place.cut)?;
        let tests = net.head(&self.subject.rows(&self.subject.tests), place.cut)?;
        let messages = self.messages(tests.iter().map(|row| shaped(&row[place.at], place)))?;
        let trial = Trial {
            net,
            place,
            rows: tests.iter().collect(),
            numbers: self.subject.tests.clone(),
            clean: self.clean.iter().collect(),
            judge: &self.subject.judge,
        };
        let judge = measure::behind(&trial);
        let elements = place.elements() * tests.len();
        let course = Course { messages: &messages, elements, judge: &judge };
        let mut lines = Vec::new();
        for codec in measure::ours() {
            lines.push(course.of_ours(codec, package, &place.name, &self.one)?);
        }
        if rivals.is_empty() {
            return Ok(lines);
        }
        let samples = fit.iter().map(|row| shaped(&row[place.at], place)).collect::<Result<Vec<_>>>()?;
        let samples = join(&samples.iter().collect::<Vec<_>>())?;
        let weights = self.channel_weights(place, &fit)?;
        self.of_rivals(&course, &samples, weights.as_deref(), rivals, &mut lines)?;
        Ok(lines)
    }

    /// The model's input instead of a value, where it is an image; bits are those of a request.
    fn inputs(&self, rivals: &mut [Rival]) -> Result<Vec<Line>> {
        let (subject, tests) = (self.subject, self.subject.rows(&self.subject.tests));
        let is_image = |row: &Row| matches!(&row[..], [one] if one.data_type() == DataType::Uint8);
        if subject.pixels.is_none() || !subject.inputs.iter().all(is_image) {
            return Ok(Vec::new());
        }
        let messages = self.messages(tests.iter().map(|row| Ok(row[0].clone())))?;
        let judge = |decoded: &[HostTensor]| {
            let rows: Vec<Row> = measure::rows_of(decoded).into_iter().map(|row| vec![row]).collect();
            let answers = answers(&subject.net.whole(&rows.iter().collect::<Vec<_>>())?)?;
            let clean: Vec<&Answer> = self.clean.iter().collect();
            let (loss, changed) = subject.judge.loss(&subject.tests, &clean, &answers);
            Ok(Judged { output_nmse: output_error(&clean, &answers), loss, changed })
        };
        let bytes = tests.first().map_or(0, |row| row[0].data().len());
        let raw = Point {
            setting: "-".into(),
            bits: 8.0 * bytes as f32,
            output_nmse: 0.0,
            loss: None,
            encode_us: None,
            decode_us: None,
        };
        let raw = Line { codec: "raw-input".into(), ours: true, ideal: false, points: vec![raw], refused: Vec::new() };
        let mut lines = vec![raw];
        let course = Course { messages: &messages, elements: tests.len(), judge: &judge };
        let fit = subject.rows(&subject.calibration);
        let samples = join(&fit.iter().map(|row| &row[0]).collect::<Vec<_>>())?;
        self.of_rivals(&course, &samples, None, rivals, &mut lines)?;
        Ok(lines)
    }

    fn of_rivals(
        &self,
        course: &Course<'_>,
        samples: &HostTensor,
        weights: Option<&[f32]>,
        rivals: &mut [Rival],
        lines: &mut Vec<Line>,
    ) -> Result<()> {
        for rival in rivals {
            for listed in rival.fit(samples, weights)? {
                if lines.iter().any(|line| line.codec == listed.name) {
                    bail!("{} has a codec {}, and there is one already", rival.command, table::clean(&listed.name));
                }
                if self.wanted(&listed.name) {
                    lines.push(course.of_rival(rival, &listed)?);
                }
            }
        }
        Ok(())
    }

    fn messages(&self, rows: impl Iterator<Item = Result<HostTensor>>) -> Result<Vec<HostTensor>> {
        let rows = rows.collect::<Result<Vec<_>>>()?;
        rows.chunks(self.batch()).map(|some| join(&some.iter().collect::<Vec<_>>())).collect()
    }

    /// What an error in each channel costs at the model's end, measured as for FF: rivals may use it.
    fn channel_weights(&self, place: &Place, fit: &[Row]) -> Result<Option<Vec<f32>>> {
        if self.args.probes == 0 {
            return Ok(None);
        }
        let some: Vec<&Row> = fit.iter().step_by(fit.len().div_ceil(PROBE_ROWS).max(1)).collect();
        let weights = probe::weights(&self.subject.net, place, &some, self.args.probes as usize)?;
        let scalar = weights.map(|weights| weights.0.into_iter().find(|(mode, _)| *mode == Mode::Scalar));
        Ok(scalar.flatten().map(|(_, list)| list))
    }
}
