//! What is measured: a model on a device with its data, in two halves that share no row.

use super::data;
use super::loss::Judge;
use super::measure::answers;
use super::net::{Net, Row};
use super::value::Bench;
use crate::config::read_bounded;
use crate::exit::usage;
use crate::model_file;
use anyhow::{Context, Result, bail};
use bps_engine::PixelInput;
use bps_graph::manifest::{self, ModelManifest};
use std::path::Path;
use std::sync::Arc;

/// What the command line says of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) struct Named<'a> {
    /// The .onnx file.
    pub(in crate::commands) onnx: &'a Path,
    /// Where rows are from; none for what model.toml says.
    pub(in crate::commands) data: Option<&'a Path>,
    /// Classes of a .npy file's rows.
    pub(in crate::commands) labels: Option<&'a Path>,
    /// Rows that are used.
    pub(in crate::commands) rows: usize,
    /// Where it runs.
    pub(in crate::commands) device: &'a str,
}

/// A model with its data.
pub(in crate::commands) struct Subject {
    pub(in crate::commands) net: Net,
    /// The model's image input, if it has one.
    pub(in crate::commands) pixels: Option<PixelInput>,
    pub(in crate::commands) judge: Judge,
    /// All rows.
    pub(in crate::commands) inputs: Vec<Row>,
    /// Numbers of the rows that calibration may see.
    pub(in crate::commands) calibration: Vec<usize>,
    /// Numbers of the others.
    pub(in crate::commands) tests: Vec<usize>,
    /// Nobody gave data.
    pub(in crate::commands) made_up: bool,
    /// Where rows are from, for people.
    pub(in crate::commands) source: String,
}

impl Subject {
    /// Brings up the device, loads the model and reads the data.
    pub(in crate::commands) fn load(named: &Named<'_>) -> Result<Self> {
        let onnx = named.onnx;
        let graph = Arc::new(model_file::load(onnx)?);
        let manifest = read_manifest(onnx)?;
        let pixels = manifest.preprocess.as_ref().map(|p| PixelInput::of(&graph, p)).transpose();
        let pixels = pixels.map_err(|e| usage(format!("{}: {e}", onnx.with_extension("toml").display())))?;
        let own = manifest.calibration.data.as_ref().map(|inner| onnx.parent().unwrap_or(Path::new("")).join(inner));
        let source = named.data.map(Path::to_owned).or(own);
        let net = Net::load(graph.clone(), pixels.clone(), named.device)?;
        let fitting = data::Target { graph: &graph, pixels: pixels.as_ref(), classes: net.classes() };
        let samples = data::load(source.as_deref(), named.labels, named.rows, fitting)?;
        let judge = match (samples.labels, net.classes()) {
            _ if samples.made_up => Judge::Nothing,
            (Some(labels), Some(_)) => Judge::Labels(labels),
            (None, Some(_)) => Judge::Agreement,
            (_, None) => Judge::Nothing,
        };
        let (calibration, tests) = data::halves(samples.inputs.len());
        let (made_up, source) = (samples.made_up, samples.source);
        Ok(Self { net, pixels, judge, inputs: samples.inputs, calibration, tests, made_up, source })
    }

    /// Some rows.
    pub(in crate::commands) fn rows(&self, numbers: &[usize]) -> Vec<&Row> {
        numbers.iter().map(|row| &self.inputs[*row]).collect()
    }

    /// What calibrates values: tables from the first rows, errors and losses from the others; `seconds` are those of
    /// one value.
    pub(in crate::commands) fn bench(
        &self,
        tables: &[usize],
        tests: &[usize],
        probes: usize,
        seconds: f64,
    ) -> Result<Bench<'_>> {
        let test_rows = self.rows(tests);
        Ok(Bench {
            net: &self.net,
            judge: &self.judge,
            tables: self.rows(tables),
            clean: answers(&self.net.whole(&test_rows)?)?,
            tests: test_rows,
            test_numbers: tests.to_vec(),
            made_up: self.made_up,
            probes,
            seconds,
        })
    }
}

/// `model.toml` beside `model.onnx`, or NAME.toml beside NAME.onnx; the defaults where there is none.
fn read_manifest(onnx: &Path) -> Result<ModelManifest> {
    const BYTES_MAX: u64 = 64 << 10;
    let path = onnx.with_extension("toml");
    match std::fs::metadata(&path) {
        Err(_) => Ok(ModelManifest::default()),
        Ok(found) if found.len() > BYTES_MAX => bail!("{} has more than {BYTES_MAX} bytes", path.display()),
        Ok(_) => {
            let text = read_bounded(&path, BYTES_MAX).with_context(|| format!("cannot read {}", path.display()))?;
            manifest::parse(&text).with_context(|| path.display().to_string())
        }
    }
}
