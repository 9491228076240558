//! The comparison, for people and machines.

use super::line::Line;
use super::verdict::{self, BITS, BitsCell, ERRORS, FF, LossCell, Summary};
use crate::table::{self, Table};
use serde::Serialize;

/// The error at which times are shown, each beside its quality.
const TIMED_AT: f32 = 0.01;
/// With fewer rows a ratio of losses is for orientation only.
const ROWS_FOR_LOSSES: usize = 10_000;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Where rows are from.
    pub(super) source: String,
    pub(super) calibration_rows: usize,
    pub(super) test_rows: usize,
    /// Rows of a message.
    pub(super) batch: usize,
    /// `labels`, `agreement` or `none`.
    pub(super) loss_by: &'static str,
    /// Where FF's tables are from.
    pub(super) ff: String,
    /// Programs that were asked.
    pub(super) rivals: Vec<String>,
    pub(super) values: Vec<ValueReport>,
    /// The model's input, sent instead: bits are those of a request.
    pub(super) inputs: Vec<Line>,
    pub(super) summaries: Vec<Named>,
    pub(super) times: Vec<Time>,
    /// Cells that FF lost.
    pub(super) lost: Vec<String>,
}

/// One value.
#[derive(Debug, Serialize)]
pub(super) struct ValueReport {
    pub(super) name: String,
    pub(super) cut: usize,
    pub(super) shape: Vec<usize>,
    pub(super) elements: usize,
    pub(super) lines: Vec<Line>,
    pub(super) bits_at_error: Vec<BitsCell>,
    pub(super) loss_at_bits: Vec<LossCell>,
    /// Against the model's input as an image: bits of a request.
    pub(super) against_input: Vec<BitsCell>,
}

/// A summary with what it is of.
#[derive(Debug, Serialize)]
pub(super) struct Named {
    pub(super) of: String,
    #[serde(flatten)]
    pub(super) summary: Summary,
}

/// A codec's time beside its quality: medians over the values, each at its coarsest setting with an output error of at most
/// 0.01.
#[derive(Debug, Serialize)]
pub(super) struct Time {
    pub(super) codec: String,
    pub(super) values: usize,
    pub(super) bits: f64,
    pub(super) encode_us: f64,
    pub(super) decode_us: f64,
}

impl ValueReport {
    pub(super) fn new(name: String, cut: usize, shape: Vec<usize>, lines: Vec<Line>, inputs: &[Line]) -> Self {
        let elements: usize = shape.iter().product();
        let requests = lines.iter().filter(|line| line.codec == FF).map(|line| per_request(line, elements));
        let with_input: Vec<Line> = requests.chain(inputs.iter().cloned()).collect();
        let cells = |lines: &[Line]| ERRORS.iter().filter_map(|e| verdict::bits_at_error(lines, *e)).collect();
        Self {
            bits_at_error: cells(&lines),
            loss_at_bits: BITS.iter().filter_map(|bits| verdict::loss_at_bits(&lines, *bits)).collect(),
            against_input: cells(&with_input),
            name,
            cut,
            shape,
            elements,
            lines,
        }
    }
}

fn per_request(line: &Line, elements: usize) -> Line {
    let mut line = line.clone();
    line.points.iter_mut().for_each(|point| point.bits *= elements as f32);
    line
}

/// Summaries over all values.
pub(super) fn summaries(values: &[ValueReport]) -> Vec<Named> {
    let of = |name: String, ratios: Vec<Option<f32>>| Named { of: name, summary: verdict::summary(&ratios) };
    let at = |cells: fn(&ValueReport) -> &Vec<BitsCell>, error: f32| -> Vec<Option<f32>> {
        values.iter().flat_map(cells).filter(|cell| cell.error == error).map(|cell| cell.ratio).collect()
    };
    let losses = |of: &str| -> Vec<Option<f32>> {
        let cells = values.iter().flat_map(|value| &value.loss_at_bits).filter(|cell| cell.of == of);
        cells.map(|cell| Some(cell.ratio)).collect()
    };
    let mut all: Vec<Named> =
        ERRORS.iter().map(|e| of(format!("bits at output error {e}"), at(|v| &v.bits_at_error, *e))).collect();
    all.push(of("accuracy lost at equal bits".into(), losses("accuracy")));
    all.push(of("output error at equal bits".into(), losses("output error")));
    let against = ERRORS.iter().map(|e| of(format!("bits against the input at {e}"), at(|v| &v.against_input, *e)));
    all.extend(against);
    all.retain(|named| named.summary.cells > 0);
    all
}

/// Times of the codecs that have any, quickest first.
pub(super) fn times(values: &[ValueReport]) -> Vec<Time> {
    let mut names: Vec<&str> = Vec::new();
    for line in values.iter().flat_map(|value| &value.lines) {
        if !names.contains(&line.codec.as_str()) {
            names.push(&line.codec);
        }
    }
    let time = |name: &&str| {
        let lines = values.iter().flat_map(|value| &value.lines).filter(|line| line.codec == *name);
        let points = lines.filter_map(|line| line.coarsest(TIMED_AT));
        let all: Vec<[f64; 3]> = points.filter_map(|p| Some([f64::from(p.bits), p.encode_us?, p.decode_us?])).collect();
        let column = |at: usize| verdict::middle(&all.iter().map(|one| one[at]).collect::<Vec<_>>());
        let codec = (*name).to_owned();
        Some(Time { codec, values: all.len(), bits: column(0)?, encode_us: column(1)?, decode_us: column(2)? })
    };
    let mut all: Vec<Time> = names.iter().filter_map(time).collect();
    all.sort_by(|a, b| (a.encode_us + a.decode_us).total_cmp(&(b.encode_us + b.decode_us)));
    all
}

/// Cells that FF lost, each in words.
pub(super) fn lost(values: &[ValueReport]) -> Vec<String> {
    let mut all = Vec::new();
    for value in values {
        let name = table::clean(&value.name);
        let places = [("", "", &value.bits_at_error), (" of a request", " of the input", &value.against_input)];
        for (unit, whose, cells) in places {
            for cell in cells.iter().filter(|cell| cell.ratio.is_none_or(|ratio| ratio > 1.0)) {
                let (error, rival, bits) = (cell.error, table::clean(&cell.rival), number(cell.rival_bits));
                let own = cell.ff_bits.map_or_else(|| "is never so good".to_owned(), |b| format!("{} bits", number(b)));
                let times = cell.ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2}x)"));
                all.push(format!("{name}, output error {error}: FF {own}{unit}, {rival}{whose} {bits}{times}"));
            }
        }
        for cell in value.loss_at_bits.iter().filter(|cell| cell.ratio > 1.0) {
            let rival = table::clean(&cell.rival);
            let (bits, of) = (cell.bits, cell.of);
            let (ff, rivals, ratio) = (small(cell.ff), small(cell.rival_loses), cell.ratio);
            all.push(format!("{name}, at most {bits} bits, {of}: FF {ff}, {rival} {rivals} ({ratio:.2}x)"));
        }
    }
    all
}

/// Bits of an element, or of a request.
fn number(bits: f32) -> String {
    if bits >= 100.0 { table::count(bits.round() as u64) } else { format!("{bits:.2}") }
}

fn small(share: f32) -> String {
    if share.abs() < 0.01 { format!("{share:.1e}") } else { format!("{share:.3}") }
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let lost = match &self.lost[..] {
            [] => "FF lost no cell\n".to_owned(),
            cells => format!("FF lost {} cells\n  {}\n", cells.len(), cells.join("\n  ")),
        };
        let tables = [self.by_value(), self.by_kind(), self.by_time(), lost, self.refused(), self.notes()];
        tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n")
    }

    fn by_value(&self) -> String {
        let headings =
            [">cut", "value", ">elements", ">FF bits", "0.001", "0.003", "0.01", "0.03", "0.1", "input 0.01"];
        let mut table = Table::new(&headings);
        let shown = |cells: &[BitsCell], error: f32| {
            let cell = cells.iter().find(|cell| cell.error == error);
            let ratio = |ratio: Option<f32>| ratio.map_or_else(|| "lost".into(), |r| format!("{r:.2}"));
            cell.map_or_else(|| "-".into(), |cell| format!("{} {}", ratio(cell.ratio), cell.rival))
        };
        for value in &self.values {
            let own = value.bits_at_error.iter().find(|cell| cell.error == TIMED_AT).and_then(|cell| cell.ff_bits);
            let mut cells = vec![
                value.cut.to_string(),
                value.name.clone(),
                table::count(value.elements as u64),
                own.map_or_else(|| "-".into(), number),
            ];
            cells.extend(ERRORS.iter().map(|error| shown(&value.bits_at_error, *error)));
            cells.push(shown(&value.against_input, TIMED_AT).replace("-input", ""));
            table.row(cells);
        }
        format!("bits of {FF} over those of the best rival, at equal error of the outputs; FF bits at 0.01\n{table}")
    }

    fn by_kind(&self) -> String {
        let mut table =
            Table::new(&["ff-c over the best rival", ">cells", ">lost", ">best", ">median", ">mean", ">worst"]);
        let shown = |ratio: Option<f32>| ratio.map_or_else(|| "-".into(), |r| format!("{r:.3}"));
        for Named { of, summary } in &self.summaries {
            table.row([
                of.clone(),
                summary.cells.to_string(),
                summary.lost.to_string(),
                shown(summary.best),
                shown(summary.median),
                shown(summary.mean),
                shown(summary.worst),
            ]);
        }
        table.to_string()
    }

    fn by_time(&self) -> String {
        let mut table = Table::new(&["codec at output error 0.01", ">values", ">bits", ">encode", ">decode", ">both"]);
        let micros = |us: f64| format!("{us:.2} us");
        for time in &self.times {
            let (bits, both) = (format!("{:.2}", time.bits), time.encode_us + time.decode_us);
            let values = time.values.to_string();
            table.row([time.codec.clone(), values, bits, micros(time.encode_us), micros(time.decode_us), micros(both)]);
        }
        table.to_string()
    }

    /// Settings that a codec would not take.
    fn refused(&self) -> String {
        let lines = self.values.iter().flat_map(|value| value.lines.iter().map(move |line| (value, line)));
        let missing = lines.flat_map(|(value, line)| line.refused.iter().map(move |why| (value, line, why)));
        let missing: Vec<String> = missing
            .map(|(value, line, why)| table::clean(&format!("{} at {}, setting {why}", line.codec, value.name)))
            .collect();
        if missing.is_empty() { String::new() } else { format!("not measured\n  {}\n", missing.join("\n  ")) }
    }

    fn notes(&self) -> String {
        let ideal: Vec<&str> = self.values.first().map_or(Vec::new(), |value| {
            value.lines.iter().filter(|line| line.ideal).map(|line| line.codec.as_str()).collect()
        });
        let ideal = if ideal.is_empty() {
            String::new()
        } else {
            format!("bits of ideal coders, no header or table counted: {}\n", table::clean(&ideal.join(", ")))
        };
        let few = if self.test_rows < ROWS_FOR_LOSSES && self.loss_by != "none" {
            format!("ratios of accuracy are from {} rows: for orientation, not for publication\n", self.test_rows)
        } else {
            String::new()
        };
        let rivals = if self.rivals.is_empty() {
            "no program was named with --rivals: FF stands against the other codecs of bps alone".to_owned()
        } else {
            format!("rivals: {}", table::clean(&self.rivals.join("; ")))
        };
        format!(
            "{} rows of {} for calibration, {} others for everything shown; {} rows a message, headers counted, one thread\n\
             FF: {}\n{rivals}\nlost accuracy by: {}; a ratio below 1 is in FF's favour\ntimes are for a row and of the \
             codecs' calls alone\n{ideal}{few}",
            self.calibration_rows,
            table::clean(&self.source),
            self.test_rows,
            self.batch,
            table::clean(&self.ff),
            self.loss_by,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::line;
    use super::*;

    const NONE: [f32; 3] = [0.0, -0.01, 0.01];

    #[test]
    fn what_ff_loses_is_named_and_counted() {
        let lines = vec![
            line(FF, &[(2.0, 0.001, NONE), (1.0, 0.01, NONE), (0.5, 0.1, NONE)]),
            line("jpeg", &[(4.0, 0.001, NONE), (3.0, 0.01, NONE), (0.25, 0.1, NONE)]),
        ];
        let inputs = [line("webp-input", &[(100.0, 0.005, NONE)])];
        let values = vec![ValueReport::new("relu".into(), 2, vec![1, 2, 8, 8], lines, &inputs)];
        let (summaries, lost) = (summaries(&values), lost(&values));
        let found: Vec<(&str, usize, usize)> =
            summaries.iter().map(|n| (n.of.as_str(), n.summary.cells, n.summary.lost)).collect();
        assert!(found.contains(&("bits at output error 0.01", 1, 0)), "{found:?}");
        assert!(found.contains(&("bits at output error 0.1", 1, 1)), "{found:?}");
        assert!(found.contains(&("bits against the input at 0.01", 1, 1)), "{found:?}");
        let wanted = "relu, output error 0.1: FF 0.50 bits, jpeg 0.25 (2.00x)";
        assert!(lost.iter().any(|cell| cell == wanted), "{lost:?}");
        let wanted = "relu, output error 0.01: FF 128 bits of a request, webp-input of the input 100 (1.28x)";
        assert!(lost.iter().any(|cell| cell == wanted), "{lost:?}");
        assert!(times(&values).is_empty(), "nothing was timed");
    }
}
