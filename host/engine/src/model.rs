//! A model as the engine knows it: the graph, what its image input looks like, and which devices hold its weights.

use crate::EngineError;
use crate::program::Program;
use bps_codec::PixelShape;
use bps_codec::ff::Package;
use bps_graph::Graph;
use bps_graph::manifest::Preprocess;
use bps_types::{DataType, hex};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// An input that also takes image bytes (UINT8, NHWC): `(x - mean) * scale` per channel turns them into what the network
/// was trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelInput {
    /// Index of the model's input.
    pub input: usize,
    /// Lines.
    pub height: usize,
    /// Pixels per line.
    pub width: usize,
    /// Bytes per pixel.
    pub channels: usize,
    /// Per channel, in units of the byte's value.
    pub mean: Vec<f32>,
    /// Per channel.
    pub scale: Vec<f32>,
}

impl PixelInput {
    /// `[preprocess]` of a `model.toml` against the input it is about. The error names the field.
    pub fn of(graph: &Graph, preprocess: &Preprocess) -> Result<Self, String> {
        let index = match &preprocess.input {
            None => 0,
            Some(name) => {
                let found = graph.inputs.iter().position(|spec| spec.name == *name);
                found.ok_or_else(|| format!("preprocess.input: the model has no input {name}"))?
            }
        };
        let spec = graph.inputs.get(index).ok_or("preprocess: the model has no input")?;
        let extent = |asked: Option<u32>, dimension: usize, what: &str| {
            let own = spec.shape.get(dimension).copied().flatten();
            let extent = asked.map(|pixels| pixels as usize).or(own);
            extent.ok_or_else(|| format!("preprocess.{what}: input {} leaves it open, so it must be given", spec.name))
        };
        Ok(Self {
            input: index,
            height: extent(preprocess.height, 2, "height")?,
            width: extent(preprocess.width, 3, "width")?,
            channels: preprocess.channels as usize,
            mean: preprocess.mean.clone(),
            scale: preprocess.scale.clone(),
        })
    }

    /// Extents of a batch with this many rows.
    pub(crate) fn shape(&self, rows: usize) -> PixelShape {
        PixelShape { rows, height: self.height, width: self.width, channels: self.channels }
    }
}

/// A loaded model. Clones are handles to the same one; when the last is dropped, devices free its weights.
#[derive(Clone)]
pub struct Model(Arc<ModelState>);

struct ModelState {
    id: u64,
    graph: Arc<Graph>,
    pixels: Option<PixelInput>,
    calibration: Option<Arc<Package>>,
    /// The processor's devices share one copy of the weights: they are in the same memory.
    on_cpu: OnceLock<Arc<Program>>,
    forget: Box<dyn Fn(u64) + Send + Sync>,
}

impl Drop for ModelState {
    fn drop(&mut self) {
        (self.forget)(self.id);
    }
}

impl Model {
    /// Checks what shapes cannot tell. `forget` is called with the id when the last handle is dropped.
    pub(crate) fn new(
        graph: Arc<Graph>,
        pixels: Option<PixelInput>,
        calibration: Option<Arc<Package>>,
        forget: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Self, EngineError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let fail = |message: String| EngineError::Model { model: graph.name.clone(), message };
        if let Some(input) = graph.inputs.iter().find(|i| i.data_type != DataType::Fp32) {
            return Err(fail(format!("input `{}` is {}, only FP32 can be executed", input.name, input.data_type)));
        }
        if let Some(pixels) = &pixels {
            check_pixels(&graph, pixels).map_err(fail)?;
        }
        if let Some(package) = calibration.as_ref().filter(|package| *package.model() != graph.digest) {
            let (theirs, ours) = (hex(&package.model()[..8]), hex(&graph.digest[..8]));
            return Err(fail(format!("its calibration was made for model {theirs}..., this one is {ours}...")));
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self(Arc::new(ModelState { id, graph, pixels, calibration, on_cpu: OnceLock::new(), forget })))
    }

    /// The graph that is executed.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.0.graph
    }

    /// The image input, if there is one.
    pub fn pixels(&self) -> Option<&PixelInput> {
        self.0.pixels.as_ref()
    }

    /// What FF was calibrated with, if it was.
    pub fn calibration(&self) -> Option<&Arc<Package>> {
        self.0.calibration.as_ref()
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn on_cpu(&self) -> &OnceLock<Arc<Program>> {
        &self.0.on_cpu
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("id", &self.0.id).field("graph", &self.0.graph.name).finish_non_exhaustive()
    }
}

/// The description must agree with the input that it describes.
fn check_pixels(graph: &Graph, pixels: &PixelInput) -> Result<(), String> {
    let PixelInput { input, height, width, channels, mean, scale } = pixels;
    let Some(spec) = graph.inputs.get(*input) else {
        return Err(format!("image input {input} does not exist, there are {}", graph.inputs.len()));
    };
    if mean.len() != *channels || scale.len() != *channels {
        let (means, scales) = (mean.len(), scale.len());
        return Err(format!("{channels} channels need as many means and scales, got {means} and {scales}"));
    }
    let fits = |extent: Option<usize>, wanted: usize| wanted > 0 && extent.is_none_or(|e| e == wanted);
    match spec.shape[..] {
        [_, c, h, w] if fits(c, *channels) && fits(h, *height) && fits(w, *width) => Ok(()),
        _ => Err(format!(
            "images of {height} x {width} with {channels} channels do not fit input `{}` of shape {:?}",
            spec.name, spec.shape
        )),
    }
}
