//! The model under calibration, run in parts on one device: from its inputs to a cut, and from a cut to its outputs.

use crate::exit::usage;
use anyhow::{Context, Result, bail};
use bps_codec::ff;
use bps_engine::{DeviceRequest, Engine, Job, JobInput, Leave, Model, PixelInput};
use bps_graph::{Graph, Shapes, Source, ValueId};
use bps_types::{DataType, HostTensor};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};

/// Rows of a job: with more, rows get no quicker.
const BATCH_ROWS: usize = 32;

/// The tensors of one row: inputs, values of a cut, or outputs.
pub(in crate::commands) type Row = Vec<HostTensor>;

/// A model on a device.
pub(in crate::commands) struct Net {
    engine: Engine,
    model: Model,
    /// Shapes of one row.
    pub(in crate::commands) shapes: Shapes,
}

/// A value that crosses a cut.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::commands) struct Place {
    /// The value's name.
    pub(in crate::commands) name: String,
    /// Index of the first cut it crosses.
    pub(in crate::commands) cut: usize,
    /// Where it stands among the values of the cut.
    pub(in crate::commands) at: usize,
    /// Of one row, as FF takes it: tensors of more than four extents are lines of features.
    pub(in crate::commands) shape: Vec<usize>,
    /// Operations before the cut and after it, one row.
    pub(in crate::commands) flops: (u64, u64),
}

impl Place {
    /// Elements of a row.
    pub(in crate::commands) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Net {
    /// Brings up the device and loads the model. Errors where it is none, is several, or the model leaves extents open.
    pub(super) fn load(graph: Arc<Graph>, pixels: Option<PixelInput>, device: &str) -> Result<Self> {
        let request: DeviceRequest = device.parse().map_err(|e| usage(format!("--device {e}")))?;
        let shapes = graph.row_shapes().context("a model whose shapes are not fixed cannot be calibrated")?;
        let engine = Engine::start(&[request]).context("the device did not start")?;
        let model = engine.load(graph, pixels).context("the model cannot be executed")?;
        Ok(Self { engine, model, shapes })
    }

    pub(in crate::commands) fn graph(&self) -> &Graph {
        self.model.graph()
    }

    /// The image that the model takes, if it does.
    pub(super) fn pixels(&self) -> Option<&PixelInput> {
        self.model.pixels()
    }

    /// How many classes the output scores; none if it is not one such list.
    pub(super) fn classes(&self) -> Option<usize> {
        let [output] = self.graph().output_values[..] else { return None };
        match self.shapes.of(output) {
            [1, classes, rest @ ..] if *classes > 1 && rest.iter().all(|extent| *extent == 1) => Some(*classes),
            _ => None,
        }
    }

    /// Every value that crosses a cut before the output, each once, and the names of those that FF does not take. The model's
    /// inputs are the first: a request that goes to another host whole is encoded, too.
    pub(in crate::commands) fn places(&self) -> (Vec<Place>, Vec<String>) {
        let graph = self.graph();
        let flops: Vec<u64> = (0..graph.layers.len()).map(|layer| graph.flops(layer, &self.shapes)).collect();
        let (mut places, mut left_out) = (Vec::new(), Vec::new());
        let mut seen: BTreeSet<ValueId> = BTreeSet::new();
        let mut names = BTreeSet::new();
        let before_output = graph.cuts.len().saturating_sub(1);
        for (cut, crossing) in graph.cuts.iter().enumerate().take(before_output) {
            for (at, id) in graph.entering(cut).iter().enumerate() {
                let value = &graph.values[id.index()];
                if matches!(value.source, Source::Constant(_)) || !seen.insert(*id) {
                    continue;
                }
                let shape = ff_shape(self.shapes.of(*id));
                if ff::planes(ff::Mode::Scalar, &shape).is_err() || !names.insert(&value.name) {
                    left_out.push(value.name.clone());
                    continue;
                }
                let (before, after) = flops.split_at(crossing.layer.min(flops.len()));
                let flops = (before.iter().sum(), after.iter().sum());
                places.push(Place { name: value.name.clone(), cut, at, shape, flops });
            }
        }
        (places, left_out)
    }

    /// The values of a cut, for each row of inputs; at the first cut the inputs as the network takes them.
    pub(in crate::commands) fn head(&self, inputs: &[&Row], cut: usize) -> Result<Vec<Row>> {
        if cut == 0 {
            let row = |row: &&Row| row.iter().map(|tensor| self.normalized(tensor)).collect();
            return inputs.iter().map(row).collect();
        }
        self.rows(inputs, 0, cut, |rows| Ok(JobInput::Requests(rows.iter().copied().cloned().collect())))
    }

    /// The outputs, for each row of the values of a cut.
    pub(in crate::commands) fn tail(&self, cut: usize, values: &[&Row]) -> Result<Vec<Row>> {
        let last = self.graph().cuts.len() - 1;
        self.rows(values, cut, last, |rows| {
            let count = rows.first().map_or(0, |row| row.len());
            let joined = (0..count).map(|at| join(&rows.iter().map(|row| &row[at]).collect::<Vec<_>>()));
            Ok(JobInput::Activation(joined.collect::<Result<_>>()?))
        })
    }

    /// The outputs of whole rows.
    pub(in crate::commands) fn whole(&self, inputs: &[&Row]) -> Result<Vec<Row>> {
        self.head(inputs, self.graph().cuts.len() - 1)
    }

    /// Pixels become what the network takes; only the image input has any.
    fn normalized(&self, tensor: &HostTensor) -> Result<HostTensor> {
        match self.model.pixels().filter(|_| tensor.data_type() == DataType::Uint8) {
            Some(pixels) => Ok(bps_codec::normalized(tensor, &pixels.mean, &pixels.scale)?),
            None => Ok(tensor.clone()),
        }
    }

    fn rows(
        &self,
        rows: &[&Row],
        from_cut: usize,
        until_cut: usize,
        input: impl Fn(&[&Row]) -> Result<JobInput>,
    ) -> Result<Vec<Row>> {
        let batch = if self.graph().batchable { BATCH_ROWS } else { 1 };
        let mut out = Vec::with_capacity(rows.len());
        for some in rows.chunks(batch) {
            let (answer, answered) = mpsc::channel();
            // Who has stopped listening needs no answer.
            let done = Box::new(move |result| drop(answer.send(result)));
            let (model, input) = (self.model.clone(), input(some)?);
            self.engine.submit(0, Job { model, from_cut, until_cut, input, leave: Leave::Tensors, done });
            let result = answered.recv().context("the device ended without an answer")?;
            let tensors = result.with_context(|| format!("running cuts {from_cut} to {until_cut} failed"))?.tensors;
            if batch == 1 {
                out.push(tensors);
                continue;
            }
            if let Some(wrong) = tensors.iter().find(|tensor| tensor.rows() != some.len()) {
                bail!("{} rows gave a result of {}", some.len(), wrong.rows());
            }
            out.extend((0..some.len()).map(|r| tensors.iter().map(|t| t.slice_rows(r..r + 1)).collect::<Row>()));
        }
        Ok(out)
    }
}

/// The shape that FF sees.
fn ff_shape(shape: &[usize]) -> Vec<usize> {
    match shape {
        [rows, rest @ ..] if shape.len() > 4 => vec![*rows, rest.iter().product()],
        _ => shape.to_vec(),
    }
}

/// Rows one behind another.
pub(in crate::commands) fn join(parts: &[&HostTensor]) -> Result<HostTensor> {
    let [first, rest @ ..] = parts else { bail!("no rows") };
    if rest.is_empty() {
        return Ok(HostTensor::clone(first));
    }
    let mut shape = first.shape().to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows = parts.iter().map(|part| part.rows()).sum();
    }
    let mut data = BytesMut::with_capacity(parts.iter().map(|part| part.data().len()).sum());
    parts.iter().for_each(|part| data.extend_from_slice(part.data()));
    Ok(HostTensor::new(first.data_type(), shape, data.freeze())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_graph::Limits;

    #[test]
    fn every_value_before_the_output_has_its_place_once() {
        let graph = Arc::new(Graph::parse(crate::local::DIGITS_ONNX, &Limits::default()).unwrap());
        let net = Net::load(graph.clone(), None, "cpu").unwrap();
        let (places, left_out) = net.places();
        let names: BTreeSet<&str> = places.iter().map(|p| p.name.as_str()).collect();
        assert_eq!((names.len(), left_out.len()), (places.len(), 0));
        let crossing: BTreeSet<ValueId> =
            graph.cuts[..graph.cuts.len() - 1].iter().flat_map(|cut| cut.values.clone()).collect();
        assert_eq!((names.len(), net.classes()), (crossing.len(), Some(10)));
        assert_eq!((places[0].name.as_str(), places[0].cut, places[0].flops.0), ("pixels", 0, 0));
        let total = |p: &Place| p.flops.0 + p.flops.1;
        assert!(places.iter().all(|p| total(p) == total(&places[0]) && p.cut + 1 < graph.cuts.len()));
    }

    #[test]
    fn parts_give_what_the_whole_gives() {
        let graph = Arc::new(Graph::parse(crate::local::DIGITS_ONNX, &Limits::default()).unwrap());
        let net = Net::load(graph, None, "cpu").unwrap();
        let inputs = super::super::made_up::rows(net.graph(), None, 5).unwrap();
        let inputs: Vec<&Row> = inputs.iter().collect();
        let whole = net.whole(&inputs).unwrap();
        let (places, _) = net.places();
        for place in [&places[0], &places[4]] {
            let values = net.head(&inputs, place.cut).unwrap();
            let parts = net.tail(place.cut, &values.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(whole, parts, "{}", place.name);
            assert_eq!(values[0][place.at].shape(), place.shape);
        }
    }

    #[test]
    fn long_shapes_become_lines() {
        assert_eq!(ff_shape(&[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(ff_shape(&[1, 2, 3, 4, 5]), [1, 120]);
    }
}
