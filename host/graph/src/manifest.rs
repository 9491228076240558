//! `model.toml`: what a model brings along beside its weights. Every field has a default; a model without the file serves.

mod placement;

pub use placement::{Placement, fits, host_part};

use crate::GraphError;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use toml::de::DeTable;

/// Name of the file, in the model's folder.
pub const FILE_NAME: &str = "model.toml";

/// A larger file is refused unread.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelManifest {
    /// Latency that a request of this model should be answered within; none where nobody waits.
    #[serde(deserialize_with = "slo_ms", skip_serializing_if = "Option::is_none")]
    pub slo_ms: Option<f64>,
    /// Larger goes first.
    pub priority: u8,
    /// Most rows of one execution, 1 to 1024.
    #[serde(deserialize_with = "batch_max")]
    pub batch_max: u32,
    /// Accuracy that lossy activation codecs may cost, in parts per million; none leaves it to the host.
    #[serde(deserialize_with = "ppm", skip_serializing_if = "Option::is_none")]
    pub accuracy_budget_ppm: Option<u32>,
    /// Codecs by name that policies may send its activations with, besides `raw`; none means all that a host knows.
    #[serde(deserialize_with = "codecs", skip_serializing_if = "Option::is_none")]
    pub codecs: Option<Vec<String>>,
    /// Requests that may wait, if not as many as the host's default; more are refused at once. 1 to 1,000,000.
    #[serde(deserialize_with = "queue_max", skip_serializing_if = "Option::is_none")]
    pub queue_max: Option<u32>,
    /// Whether paired hosts may fetch the model.
    pub exportable: bool,
    /// Where it may run.
    pub placement: Placement,
    /// How an encoded image becomes an input; without it, only tensors are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// What lossy codecs are calibrated with.
    pub calibration: Calibration,
}

impl Default for ModelManifest {
    fn default() -> Self {
        Self {
            slo_ms: None,
            priority: 100,
            batch_max: 32,
            accuracy_budget_ppm: None,
            codecs: None,
            queue_max: None,
            exportable: true,
            placement: Placement::default(),
            preprocess: None,
            calibration: Calibration::default(),
        }
    }
}

/// How an image becomes an input: resized, then `y = (x - mean) * scale` per channel with `x` in 0..=255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PreprocessFields")]
pub struct Preprocess {
    /// The model's input; none means the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Pixels per line; none means the input's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Lines; none means the input's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: u32,
    /// Order of the input's dimensions.
    pub layout: Layout,
    /// Subtracted, one per channel.
    pub mean: Vec<f32>,
    /// Factor, one per channel.
    pub scale: Vec<f32>,
}

/// Order of an image input's dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, channel, line, column.
    #[default]
    Nchw,
}

/// Calibration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calibration {
    /// File or folder inside the model's folder.
    #[serde(deserialize_with = "inner_path", skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
}

/// [`Preprocess`] before the fields are checked against each other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreprocessFields {
    input: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    channels: Option<u32>,
    #[serde(default)]
    layout: Layout,
    mean: Option<Vec<f32>>,
    scale: Option<Vec<f32>>,
}

impl TryFrom<PreprocessFields> for Preprocess {
    type Error = String;

    fn try_from(fields: PreprocessFields) -> Result<Self, String> {
        let channels = fields.channels.unwrap_or(3);
        if !matches!(channels, 1 | 3) {
            return Err(format!("preprocess.channels must be 1 or 3, not {channels}"));
        }
        for (name, pixels) in [("width", fields.width), ("height", fields.height)] {
            if pixels.is_some_and(|p| !(1..=16_384).contains(&p)) {
                return Err(format!("preprocess.{name} must be 1 to 16384"));
            }
        }
        let per_channel = |name: &str, values: Option<Vec<f32>>, default: f32| {
            let values = values.unwrap_or_else(|| vec![default; channels as usize]);
            let fits = values.len() == channels as usize && values.iter().all(|v| v.is_finite());
            if fits { Ok(values) } else { Err(format!("preprocess.{name} must be {channels} finite numbers")) }
        };
        Ok(Self {
            input: fields.input,
            width: fields.width,
            height: fields.height,
            channels,
            layout: fields.layout,
            mean: per_channel("mean", fields.mean, 0.0)?,
            scale: per_channel("scale", fields.scale, 1.0 / 255.0)?,
        })
    }
}

fn slo_ms<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let ms = f64::deserialize(from)?;
    let fits = ms > 0.0 && ms <= 86_400_000.0;
    if fits { Ok(Some(ms)) } else { Err(D::Error::custom("must be more than 0 and at most 86400000 (a day)")) }
}

fn within<'de, D: Deserializer<'de>>(from: D, least: u32, most: u32) -> Result<u32, D::Error> {
    let value = i64::deserialize(from)?;
    let fitting = u32::try_from(value).ok().filter(|v| (least..=most).contains(v));
    fitting.ok_or_else(|| D::Error::custom(format!("must be {least} to {most}, not {value}")))
}

fn batch_max<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    within(from, 1, 1024)
}

fn ppm<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    within(from, 0, 1_000_000).map(Some)
}

fn queue_max<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    within(from, 1, 1_000_000).map(Some)
}

fn codecs<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let good = |name: &String| (1..=32).contains(&name.len());
    if names.iter().all(good) { Ok(Some(names)) } else { Err(D::Error::custom("a codec's name has 1 to 32 letters")) }
}

fn inner_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(from)?;
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if inside { Ok(Some(path)) } else { Err(D::Error::custom("must be a path inside the model's folder")) }
}

/// Reads the text of a `model.toml`.
pub fn parse(text: &str) -> Result<ModelManifest, GraphError> {
    parse_named(text, Path::new(FILE_NAME))
}

/// Reads `model.toml` in a model's folder; the default where there is none.
pub fn load(dir: &Path) -> Result<ModelManifest, GraphError> {
    let path = dir.join(FILE_NAME);
    let read = |source| GraphError::Read { path: path.clone(), source };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(ModelManifest::default()),
        Err(e) => return Err(read(e)),
        Ok(m) if m.len() > FILE_BYTES_MAX || !m.is_file() => {
            let what = format!("{} (a plain file)", path.display());
            return Err(GraphError::Limit { what, got: m.len(), limit: FILE_BYTES_MAX });
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(&path).map_err(read)?;
    parse_named(&text, &path)
}

fn parse_named(text: &str, file: &Path) -> Result<ModelManifest, GraphError> {
    toml::from_str(text).map_err(|e| {
        // What is checked over several fields of a table is reported at the table; the message begins with its field.
        let field = e.message().split(' ').next().and_then(|name| place_of(text, name));
        let start = field.or_else(|| Some(e.span()?.start)).unwrap_or(0).min(text.len());
        let line = 1 + text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count();
        GraphError::Manifest { file: file.to_owned(), line, message: e.message().to_owned() }
    })
}

/// Where the value of a field is that is named `table.field`.
fn place_of(text: &str, name: &str) -> Option<usize> {
    let (table, field) = name.split_once('.')?;
    let root = DeTable::parse(text).ok()?;
    Some(root.get_ref().get(table)?.get_ref().as_table()?.get(field)?.span().start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_types::policy::DeviceKind;

    #[test]
    fn empty_is_the_default() {
        assert_eq!(parse("").unwrap(), ModelManifest::default());
    }

    #[test]
    fn every_field_is_read() {
        let manifest = parse(
            r#"
            slo_ms = 50
            priority = 7
            batch_max = 8
            accuracy_budget_ppm = 1000
            codecs = ["f16", "int8"]
            queue_max = 64
            exportable = false
            [placement]
            allow = ["gpu", "cpu:0/2"]
            deny = ["software"]
            local_only = true
            [preprocess]
            input = "x"
            width = 32
            height = 16
            channels = 1
            layout = "nchw"
            mean = [127.5]
            scale = [0.00784]
            [calibration]
            data = "calibration/digits.bin"
            "#,
        )
        .unwrap();
        assert_eq!((manifest.slo_ms, manifest.priority, manifest.batch_max), (Some(50.0), 7, 8));
        assert_eq!(
            (manifest.accuracy_budget_ppm, manifest.queue_max, manifest.exportable),
            (Some(1000), Some(64), false)
        );
        assert_eq!(manifest.codecs.as_deref(), Some(&["f16".to_owned(), "int8".to_owned()][..]));
        assert!(manifest.placement.local_only && manifest.placement.permits("gpu:0", DeviceKind::Gpu));
        assert!(manifest.placement.permits("cpu:0/2", DeviceKind::Cpu));
        assert!(!manifest.placement.permits("cpu:1/2", DeviceKind::Cpu));
        assert!(!manifest.placement.permits("llvmpipe", DeviceKind::Software));
        let preprocess = manifest.preprocess.unwrap();
        assert_eq!((preprocess.width, preprocess.height, preprocess.mean), (Some(32), Some(16), vec![127.5]));
        assert_eq!(manifest.calibration.data.unwrap(), Path::new("calibration/digits.bin"));
    }

    #[test]
    fn errors_name_line_and_reason() {
        let table = [
            ("priority = 1\nbatch_maximum = 3\n", 2, "batch_maximum"),
            ("\n\nbatch_max = 0\n", 3, "1 to 1024"),
            ("batch_max = -1", 1, "not -1"),
            ("priority = 300", 1, "300"),
            ("slo_ms = nan", 1, "more than 0"),
            ("queue_max = 'many'", 1, "invalid type"),
            ("accuracy_budget_ppm = 1000001", 1, "0 to 1000000"),
            ("\ncodecs = 'raw'", 2, "invalid type"),
            ("codecs = ['f16', '']", 1, "1 to 32 letters"),
            ("[placement]\nallow = 'gpu'\n", 2, "invalid type"),
            ("[placement]\nallowed = ['gpu']\n", 2, "allowed"),
            ("a = 1\n[preprocess]\nchannels = 3", 1, "unknown field `a`"),
            ("[preprocess]\nchannels = 2\n", 2, "1 or 3"),
            ("[preprocess]\nmean = [1.0, 2.0]\n", 2, "preprocess.mean must be 3"),
            ("[preprocess]\nchannels = 1\n\nheight = 0\n", 4, "preprocess.height must be 1 to 16384"),
            ("[preprocess]\nchannels = 1\nmean = [0.5]\nscale = [\n1.0, inf]\n", 4, "preprocess.scale must be 1"),
            ("slo_ms = 1\npreprocess.channels = 2\n", 2, "1 or 3"),
            ("\npreprocess = { channels = 3, width = 99999 }\n", 2, "preprocess.width"),
            ("[preprocess]\nlayout = 'nhwc'\n", 2, "nhwc"),
            ("[calibration]\ndata = '../secret'\n", 2, "inside"),
            ("[calibration]\ndata = '/etc/passwd'\n", 2, "inside"),
            ("slo_ms = ", 1, ""),
        ];
        for (text, expected_line, part) in table {
            match parse(text) {
                Err(GraphError::Manifest { line, message, .. }) => {
                    assert_eq!(line, expected_line, "{text:?}: {message}");
                    assert!(message.contains(part), "{text:?}: {message}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn written_and_read_back() {
        let manifest = parse("slo_ms = 5\n[preprocess]\nchannels = 1\n[calibration]\ndata = 'a/b'").unwrap();
        assert_eq!(parse(&toml::to_string(&manifest).unwrap()).unwrap(), manifest);
    }
}
