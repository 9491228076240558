//! A model that is served: graph, engine handle, manifest, costs, counts.

use super::calibration::Calibration;
use super::costs::Costs;
use super::export::Export;
use super::memory::ActivationMemory;
use crate::metrics::ModelMeters;
use crate::peers::LocalModel;
use crate::stats::Stats;
use crate::{ImageInputView, ModelView};
use bps_codec::ff::CutPackage;
use bps_engine::PixelInput;
use bps_graph::Graph;
use bps_graph::manifest::ModelManifest;
use bps_types::policy::{ModelInfo, Table};
use bps_types::{DataType, ModelId, Nanos, TensorSpec};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// One version of one model under one id. Immutable but for its counters.
pub(crate) struct ServedModel {
    pub(crate) id: ModelId,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) graph: Arc<Graph>,
    pub(crate) engine: bps_engine::Model,
    pub(crate) manifest: ModelManifest,
    pub(crate) pixels: Option<PixelInput>,
    /// Ids and names of the devices it may run on.
    pub(crate) devices: Vec<(u32, String)>,
    pub(crate) batch_max: u32,
    /// What an execution's activations may take.
    pub(crate) memory: ActivationMemory,
    /// What codecs may cost it.
    pub(crate) accuracy_budget_ppm: u32,
    pub(crate) costs: Costs,
    /// Equal on another host exactly if cut numbers mean the same there.
    pub(crate) cut_list: [u8; 32],
    /// What others may fetch; none: nothing.
    pub(crate) export: Option<Export>,
    /// What FF was calibrated with.
    pub(crate) calibration: Option<Calibration>,
    /// Whether all hosts that run it have the same calibration: only then are frames made with it.
    pub(crate) calibration_shared: AtomicBool,
    /// Came from another host, for stages from there; clients do not see it.
    pub(crate) fetched: bool,
    pub(crate) meters: ModelMeters,
    pub(crate) stats: Stats,
    pub(crate) traffic: Traffic,
}

/// Requests, and stages of other hosts, that refer to a model.
#[derive(Default)]
pub(crate) struct Traffic {
    count: AtomicUsize,
    /// Since it was loaded.
    entered: AtomicU64,
    ended: Notify,
}

/// A request's hold on its model.
pub(crate) struct InFlight(Arc<ServedModel>);

impl InFlight {
    /// Called under the registry's lock, so that a model that is on its way out is not entered.
    pub(super) fn enter(model: &Arc<ServedModel>) -> Self {
        model.traffic.count.fetch_add(1, Ordering::AcqRel);
        model.traffic.entered.fetch_add(1, Ordering::Relaxed);
        Self(model.clone())
    }

    pub(crate) fn model(&self) -> &Arc<ServedModel> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.traffic.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.traffic.ended.notify_waiters();
        }
    }
}

impl ServedModel {
    /// Bytes of one row of all outputs; 0 where the file leaves it open.
    pub(crate) fn output_bytes(&self) -> u64 {
        self.costs.output_bytes()
    }

    pub(crate) fn in_flight_count(&self) -> usize {
        self.traffic.count.load(Ordering::Acquire)
    }

    /// Requests and stages that have referred to it since it was loaded.
    pub(crate) fn entered_count(&self) -> u64 {
        self.traffic.entered.load(Ordering::Relaxed)
    }

    /// Ends when no request refers to it.
    pub(crate) async fn drained(&self) {
        loop {
            let ended = self.traffic.ended.notified();
            if self.in_flight_count() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Where extents are open, whether inputs of these types and shapes fit the layers, and with all that may join them the
    /// devices' memory.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub(crate) fn check_inputs<'a>(
        &self,
        inputs: impl Iterator<Item = (DataType, &'a [usize])>,
        rows: u32,
    ) -> Result<(), String> {
        let open = |spec: &TensorSpec| spec.shape.iter().skip(1).any(Option::is_none);
        if !self.graph.inputs.iter().any(open) {
            return Ok(());
        }
        let entering = |(at, (data_type, shape)): (usize, (DataType, &[usize]))| self.entering(at, data_type, shape);
        let shapes: Vec<Vec<usize>> = inputs.enumerate().map(entering).collect();
        let shapes = self.graph.infer(&shapes).map_err(|e| e.to_string())?;
        self.memory.check(&self.graph, &shapes, rows, self.batch_max)
    }

    /// The shape with which an input enters the network: that of pixels where it is pixels, or will be.
    fn entering(&self, index: usize, data_type: DataType, shape: &[usize]) -> Vec<usize> {
        match self.pixels.as_ref().filter(|pixels| data_type != DataType::Fp32 && pixels.input == index) {
            Some(pixels) => {
                vec![shape.first().copied().unwrap_or(1), pixels.channels, pixels.height, pixels.width]
            }
            None => shape.to_vec(),
        }
    }

    /// Input and output included.
    pub(crate) fn cut_count(&self) -> u32 {
        self.graph.cuts.len() as u32
    }

    /// A batch reached the model's output.
    pub(crate) fn executed(&self, rows: u32, elapsed: Nanos) {
        self.stats.executed(rows, elapsed);
        self.meters.executed(rows);
    }

    /// What policies are told, but for the devices of other hosts.
    pub(crate) fn info(&self) -> ModelInfo {
        ModelInfo {
            id: self.id.0,
            name: self.name.clone(),
            cut_count: self.cut_count(),
            input_bytes: self.costs.input_bytes(),
            output_bytes: self.costs.output_bytes(),
            batch_max: self.batch_max,
            slo: Nanos::from_secs_f64(self.manifest.slo_ms.unwrap_or(0.0) / 1e3),
            accuracy_budget_ppm: self.accuracy_budget_ppm,
            priority: self.manifest.priority,
            devices: self.devices.iter().map(|(id, _)| *id).collect(),
        }
    }

    /// Its cost tables under the ids of a world.
    pub(crate) fn tables(&self, epoch: u32) -> Vec<Table> {
        self.costs.tables(epoch, self.id.0, self.is_calibrated())
    }

    /// Whether frames are made with its calibration.
    pub(crate) fn is_calibrated(&self) -> bool {
        self.calibration.is_some() && self.calibration_shared.load(Ordering::Relaxed)
    }

    /// What was calibrated for one of the values that enter at a cut, where frames are made with that.
    pub(crate) fn calibrated(&self, cut: usize, index: usize) -> Option<&CutPackage> {
        let calibration = self.calibration.as_ref().filter(|_| self.is_calibrated())?;
        let value = self.graph.entering(cut).get(index)?;
        calibration.package.cut(&self.graph.values[value.index()].name)
    }

    /// Takes in whether all hosts that run it have the same calibration; true if that changes what it costs.
    pub(crate) fn share_calibration(&self, shared: bool) -> bool {
        self.calibration_shared.swap(shared, Ordering::Relaxed) != shared && self.calibration.is_some()
    }

    /// The digest of its calibration; zeros where it has none.
    pub(crate) fn calibration_digest(&self) -> [u8; 32] {
        self.calibration.as_ref().map_or([0; 32], |calibration| calibration.digest)
    }

    /// As far as other hosts are concerned.
    pub(crate) fn for_neighbours(&self) -> LocalModel<'_> {
        LocalModel {
            id: self.id.0,
            name: &self.name,
            digest: self.graph.digest,
            cut_list: self.cut_list,
            calibration: self.calibration_digest(),
            cut_count: self.cut_count(),
            batch_max: self.batch_max,
            placement: &self.manifest.placement,
        }
    }

    pub(crate) fn view(&self, versions: Vec<String>) -> ModelView {
        let image = |p: &PixelInput| ImageInputView {
            name: self.graph.inputs[p.input].name.clone(),
            width: p.width,
            height: p.height,
            channels: p.channels,
        };
        ModelView {
            name: self.name.clone(),
            version: self.version.clone(),
            versions,
            inputs: self.graph.inputs.clone(),
            outputs: self.graph.outputs.clone(),
            image_input: self.pixels.as_ref().map(image),
            batch_max: self.batch_max,
            slo_ms: self.manifest.slo_ms.unwrap_or(0.0),
            priority: self.manifest.priority,
            digest: self.graph.digest_hex(),
            layer_count: self.graph.layers.len(),
            cut_count: self.graph.cuts.len(),
            parameter_count: self.graph.parameter_count(),
            devices: self.devices.iter().map(|(_, name)| name.clone()).collect(),
            measured: self.costs.is_measured(),
        }
    }
}
