//! `bps profile MODEL`: how long each layer takes on each device, for each batch size.

use crate::config::read_bounded;
use crate::exit::usage;
use crate::model_file;
use crate::output::Output;
use crate::progress;
use crate::state;
use crate::table::{self, Table};
use anyhow::{Context, Result};
use bps_engine::{DeviceRequest, Engine, Profile};
use bps_graph::Graph;
use bps_types::policy::TABLE_BATCHES;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TEACH: &str = "\
How to read it
  One table per device. \"layers\" is the sum over all layers, \"moving\" what upload and read-back add, \"rows/s\" what a device
  reaches if it does nothing but batches of this size. Where rows/s stops growing, larger batches only add latency: a good
  batch_max for the model's model.toml. --layers shows where the time goes.
  Figures are medians of repeated runs. Those for the default batch sizes are kept in the state folder, where
  `bps serve` finds them too; --fresh measures again.

Examples
  bps profile net.onnx
  bps profile net.onnx --device cpu --device gpu:0 --batch 1,8,32 --layers";

/// Measure how long a model takes on a device, layer by layer and batch by batch.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct ProfileArgs {
    /// The .onnx file, or a folder with model.onnx.
    model: PathBuf,
    /// A device, as in `bps serve`; repeat for more.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Vec<String>,
    /// Batch sizes.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,2,4,8,16,32",
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    batch: Vec<u32>,
    /// Show every layer.
    #[arg(long)]
    layers: bool,
    /// Measure even if figures are kept.
    #[arg(long)]
    fresh: bool,
}

/// One device's figures, with the names that make them readable.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    profile: Profile,
    layer_names: Vec<String>,
    from_cache: bool,
}

/// Measures, or reads what is kept, and shows it.
pub(crate) fn run(args: &ProfileArgs, out: Output) -> Result<()> {
    let requests: Result<Vec<DeviceRequest>, _> = args.device.iter().map(|d| d.parse::<DeviceRequest>()).collect();
    let requests = requests.map_err(|e| usage(format!("--device {e}")))?;
    let graph = Arc::new(model_file::load(&args.model)?);
    let engine = Engine::start(&requests).context("the devices did not start")?;
    let mut batches = if graph.batchable { args.batch.clone() } else { vec![1] };
    batches.sort_unstable();
    batches.dedup();
    let mut reports = Vec::new();
    for device in 0..engine.devices().len() {
        reports.push(one_device(&engine, device, &graph, &batches, args.fresh)?);
    }
    out.emit(&reports, |all| all.iter().map(|r| text(r, &graph, args.layers)).collect::<Vec<_>>().join("\n"))
}

fn one_device(engine: &Engine, device: usize, graph: &Arc<Graph>, batches: &[u32], fresh: bool) -> Result<Report> {
    let description = &engine.devices()[device];
    let layer_names = graph.layers.iter().map(|l| l.name.clone()).collect();
    let standard = batches == TABLE_BATCHES || batches == [1];
    let file = cache_file(&graph.digest_hex(), &description.fingerprint).filter(|_| standard);
    if let Some(profile) = file.as_deref().filter(|_| !fresh).and_then(read_cache)
        && profile.batches == batches
        && profile.digest == graph.digest_hex()
        && profile.fingerprint == description.fingerprint
        && profile.layer_nanos.iter().all(|l| l.len() == graph.layers.len())
    {
        return Ok(Report { profile, layer_names, from_cache: true });
    }
    let model = engine.load(Arc::clone(graph), None).context("the model cannot be executed")?;
    let bar = progress::bar(0, &format!("measuring on {}", description.name));
    let mut tick = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let profile = engine.profile(device, &model, batches, &mut tick);
    bar.finish_and_clear();
    let profile = profile.with_context(|| format!("measuring on {} failed", description.name))?;
    if let Some(file) = file {
        // Kept figures are a convenience: without a place for them the command still shows what it measured.
        if let Err(error) = keep(&file, &profile) {
            tracing::warn!("the profile is not kept: {error:#}");
        }
    }
    Ok(Report { profile, layer_names, from_cache: false })
}

/// The file that `bps serve` reads too; only figures for the batch sizes it asks about belong there.
fn cache_file(digest: &str, fingerprint: &str) -> Option<PathBuf> {
    use sha2::{Digest, Sha256};
    let key = bps_types::hex(&Sha256::digest(fingerprint)[..8]);
    Some(state::folder()?.join("profiles").join(format!("{}-{key}.json", digest.get(..16)?)))
}

fn read_cache(file: &Path) -> Option<Profile> {
    const BYTES_MAX: u64 = 64 << 20;
    let is_plain = std::fs::metadata(file).is_ok_and(|known| known.is_file());
    if is_plain { serde_json::from_str(&read_bounded(file, BYTES_MAX).ok()?).ok() } else { None }
}

fn keep(file: &Path, profile: &Profile) -> Result<()> {
    if let Some(folder) = file.parent() {
        state::make_folder(folder)?;
    }
    model_file::write(file, &serde_json::to_vec(profile)?)
}

fn text(report: &Report, graph: &Graph, layers: bool) -> String {
    let profile = &report.profile;
    let kept = if report.from_cache { " (kept figures; --fresh measures again)" } else { "" };
    let mut text = format!("{}: {}{kept}\n", table::clean(&profile.device), table::clean(&profile.fingerprint));
    let mut totals = Table::new(&[">batch", ">layers", ">moving", ">total", ">per row", ">rows/s"]);
    for (i, batch) in profile.batches.iter().enumerate() {
        let compute: u64 = profile.layer_nanos.get(i).map(|l| l.iter().sum()).unwrap_or_default();
        let moving = profile.overhead_nanos.get(i).copied().unwrap_or_default();
        let total = compute + moving;
        let per_row = total / u64::from(*batch).max(1);
        totals.row([
            batch.to_string(),
            table::nanos(compute),
            table::nanos(moving),
            table::nanos(total),
            table::nanos(per_row),
            format!("{:.1}", 1e9 / per_row.max(1) as f64),
        ]);
    }
    text.push_str(&totals.to_string());
    if layers {
        text.push('\n');
        text.push_str(&layer_table(profile, graph));
    }
    text
}

fn layer_table(profile: &Profile, graph: &Graph) -> String {
    let batch_headings: Vec<String> = profile.batches.iter().map(|b| format!(">batch {b}")).collect();
    let mut headings = vec![">layer", "name"];
    headings.extend(batch_headings.iter().map(String::as_str));
    let mut rows = Table::new(&headings);
    for (index, layer) in graph.layers.iter().enumerate() {
        let times = profile.layer_nanos.iter().map(|l| l.get(index).map_or_else(|| "-".into(), |n| table::nanos(*n)));
        rows.row([index.to_string(), layer.name.clone()].into_iter().chain(times));
    }
    rows.to_string()
}
