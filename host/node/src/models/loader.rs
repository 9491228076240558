//! From a file to a served model: read, parse, place, profile. Blocks for as long as that takes; never on a thread that
//! serves.

use super::calibration::Calibration;
use super::costs::Costs;
use super::export::Export;
use super::memory::ActivationMemory;
use super::placement::unmatched_here;
use super::{Loaded, ServedModel, profiles};
use crate::ProfileChoice;
use crate::codecs;
use crate::metrics::Metrics;
use crate::repository::{Source, Versions};
use crate::state_dir;
use crate::stats::Stats;
use bps_codec::CodecTiming;
use bps_engine::{DeviceDescription, Engine, PixelInput};
use bps_graph::manifest::{self, ModelManifest};
use bps_graph::{Graph, Limits};
use bps_types::ModelId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// As large as a `model.toml` may be.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// What loading needs.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) profile: ProfileChoice,
    pub(crate) accuracy_loss_max_ppm: Option<u32>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) next_id: AtomicU32,
    /// Whether this host meets others: then models have what others ask for.
    pub(crate) meets_others: bool,
    /// What codecs cost on each device, once it was measured.
    pub(crate) codec_timings: OnceLock<Vec<Option<Vec<CodecTiming>>>>,
}

impl Loader {
    pub(crate) fn devices(&self) -> &[DeviceDescription] {
        self.engine.devices()
    }

    /// Every version, each by itself: one that fails takes no other down.
    pub(crate) fn load_versions(&self, name: &str, versions: &Versions) -> Vec<Loaded> {
        let one = |(version, source): (&u64, &Source)| {
            // Parsing is written not to panic on any bytes; this is for the day it does.
            let loaded = catch_unwind(AssertUnwindSafe(|| self.load(name, *version, source)));
            let loaded = loaded.unwrap_or_else(|_| Err("loading it panicked; please report the file".into()));
            (*version, loaded.inspect(|model| self.name_unmatched(model)).map(Arc::new))
        };
        versions.iter().map(one).collect()
    }

    /// A model that was fetched: it may lie about anything but its digest, which the caller has checked.
    pub(crate) fn load_fetched(&self, name: &str, source: &Source) -> Result<ServedModel, String> {
        let loaded = catch_unwind(AssertUnwindSafe(|| self.load(name, 1, source)));
        let model = loaded.unwrap_or_else(|_| Err("loading it panicked; please report the file".into()))?;
        Ok(ServedModel { fetched: true, export: None, ..model })
    }

    fn load(&self, name: &str, version: u64, source: &Source) -> Result<ServedModel, String> {
        let (graph, manifest) = read(source)?;
        let graph = Arc::new(graph);
        let pixels = manifest.preprocess.as_ref().map(|p| PixelInput::of(&graph, p)).transpose()?;
        let allowed = |d: &&DeviceDescription| manifest.placement.permits(&d.name, d.kind);
        let devices: Vec<&DeviceDescription> = self.devices().iter().filter(allowed).collect();
        if devices.is_empty() {
            return Err("its placement allows none of this host's devices".into());
        }
        let calibration = Calibration::of(source, name, &graph.digest).filter(|_| self.meets_others);
        let package = calibration.as_ref().map(|c| c.package.clone());
        let engine = self.engine.load_calibrated(graph.clone(), pixels.clone(), package).map_err(|e| e.to_string())?;
        let shapes = graph.row_shapes().ok();
        let memory = ActivationMemory::of(&devices);
        let batch_wanted = if graph.batchable { manifest.batch_max } else { 1 };
        // Where extents are open, each request says what it takes.
        let fitting = shapes.as_ref().map(|row| memory.rows(&graph, row, batch_wanted)).transpose()?;
        let batch_max = fitting.unwrap_or(batch_wanted);
        if batch_max < batch_wanted {
            tracing::info!(model = name, batch_max, wanted = batch_wanted, "larger batches would not fit in memory");
        }
        let mut costs = Costs::new(&graph, shapes.as_ref());
        let codecs = codecs::permitted(&manifest)?;
        if self.meets_others {
            costs = costs.with_codings(pixels.is_some(), codecs, &devices, |index| self.codec_timings(index));
            if let (Some(calibration), Some(shapes)) = (&calibration, &shapes) {
                costs = costs.with_calibration(&calibration.package, &graph, shapes);
            }
        }
        for device in &devices {
            let directory = self.state_dir.as_deref();
            match profiles::obtain(self.profile, directory, &self.engine, device, &engine, batch_max) {
                Some(profile) => costs.measured(device.index as u32, &graph, &profile),
                None => costs.estimated(device, &graph, shapes.as_ref()),
            }
        }
        tracing::info!(
            model = name,
            version,
            layers = graph.layers.len(),
            measured = costs.is_measured(),
            calibrated = calibration.is_some(),
            "model loaded"
        );
        Ok(ServedModel {
            id: ModelId(self.next_id.fetch_add(1, Ordering::Relaxed)),
            name: name.to_owned(),
            version: version.to_string(),
            devices: devices.iter().map(|d| (d.index as u32, d.name.clone())).collect(),
            meters: self.metrics.model(name),
            stats: Stats::default(),
            traffic: super::served::Traffic::default(),
            export: self.export(name, &graph, &manifest, calibration.as_ref(), source),
            cut_list: graph.cut_list_hash(),
            fetched: false,
            calibration,
            calibration_shared: AtomicBool::new(false),
            accuracy_budget_ppm: budget(manifest.accuracy_budget_ppm, self.accuracy_loss_max_ppm),
            graph,
            engine,
            manifest,
            pixels,
            batch_max,
            memory,
            costs,
        })
    }

    /// Says which placement patterns of an own model match no device. Those of a fetched one speak of another host's.
    fn name_unmatched(&self, model: &ServedModel) {
        let own: Vec<&str> = self.devices().iter().map(|d| d.name.as_str()).collect();
        for pattern in unmatched_here(&model.manifest.placement, &own, self.meets_others) {
            tracing::warn!(model = model.name, pattern, "a placement pattern matches no device");
        }
    }

    /// Measured with the first model, where measuring is wanted: about 100 ms a device.
    fn codec_timings(&self, index: usize) -> Option<Vec<CodecTiming>> {
        if self.profile != ProfileChoice::Quick {
            return None;
        }
        let measure = |device: &DeviceDescription| {
            let timings = self.engine.measure_codecs(device.index);
            timings.inspect_err(|error| tracing::warn!(%error, device = device.name, "codecs are not measured")).ok()
        };
        let timings = self.codec_timings.get_or_init(|| self.devices().iter().map(measure).collect());
        timings.get(index).cloned().flatten()
    }

    fn export(
        &self,
        name: &str,
        graph: &Graph,
        manifest: &ModelManifest,
        calibration: Option<&Calibration>,
        source: &Source,
    ) -> Option<Export> {
        if !self.meets_others || !manifest.exportable || manifest.placement.local_only {
            return None;
        }
        let export = Export::of(source, graph, calibration);
        export.inspect_err(|reason| tracing::warn!(model = name, reason, "other hosts cannot fetch a model")).ok()
    }
}

/// What codecs may cost a model: what it says itself, held to the host's bound, which also speaks where it is silent.
fn budget(own: Option<u32>, host: Option<u32>) -> u32 {
    match (own, host) {
        (Some(own), Some(host)) => own.min(host),
        (own, host) => own.or(host).unwrap_or(0),
    }
}

fn read(source: &Source) -> Result<(Graph, ModelManifest), String> {
    let limits = Limits::default();
    match source {
        Source::Builtin { onnx, manifest, .. } => {
            let manifest = manifest::parse(manifest).map_err(|e| e.to_string())?;
            Ok((Graph::parse(onnx, &limits).map_err(|e| e.to_string())?, manifest))
        }
        Source::File { onnx, manifests } => {
            let present = manifests.iter().find(|path| path.is_file());
            let manifest = present.map(|path| read_manifest(path)).transpose()?.unwrap_or_default();
            Ok((Graph::load(onnx, &limits).map_err(|e| e.to_string())?, manifest))
        }
    }
}

fn read_manifest(path: &Path) -> Result<ModelManifest, String> {
    let bytes = state_dir::read_bounded(path, MANIFEST_BYTES_MAX).map_err(|e| e.to_string())?.unwrap_or_default();
    let text = std::str::from_utf8(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    manifest::parse(text).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::budget;

    #[test]
    fn the_hosts_bound_speaks_where_the_model_is_silent_and_holds_where_it_is_not() {
        let cases = [
            ((None, None), 0),
            ((None, Some(5_000)), 5_000),
            ((Some(9_000), None), 9_000),
            ((Some(9_000), Some(5_000)), 5_000),
            ((Some(0), Some(5_000)), 0),
        ];
        for ((own, host), wanted) in cases {
            assert_eq!(budget(own, host), wanted, "{own:?} {host:?}");
        }
    }
}
