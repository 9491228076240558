//! The loop: pictures forward, gradients back, weights updated.

use super::network::{self, Network};
use super::{Course, Pixels, Progress};
use crate::JobError;
use bps_data::{CLASSES, Picture};
use bps_graph::Graph;
use burn::optim::{Adam, AdamConfig, AdamState, Optimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, TensorData};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What learns. Optimiser and gradients see it flat, the network in its shape.
pub(super) struct Parameter {
    pub(super) flat: burn::tensor::Tensor<1>,
    state: Option<AdamState<1>>,
}

impl Parameter {
    pub(super) fn new(values: Vec<f32>, device: &Device) -> Self {
        let length = values.len();
        let flat = burn::tensor::Tensor::<1>::from_data(TensorData::new(values, [length]), device).require_grad();
        Self { flat, state: None }
    }

    /// Its values, on the host.
    pub(super) fn values(&self) -> Result<Vec<f32>, JobError> {
        read(self.flat.clone().inner())
    }

    fn update(&mut self, adam: &Adam, rate: f64, gradients: &burn::tensor::Gradients) {
        let Some(gradient) = self.flat.grad(gradients) else { return };
        let (updated, state) = adam.step(rate, self.flat.clone().inner(), gradient, self.state.take());
        self.flat = burn::tensor::Tensor::from_inner(updated).require_grad();
        self.state = state;
    }
}

/// Learns; the result are the trained weights by name.
pub(super) fn fit(
    graph: &Arc<Graph>,
    mut course: Course<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<String, Vec<f32>>, JobError> {
    let device = Device::flex().autodiff();
    let mut network = Network::new(graph.clone(), &device, course.normalised)?;
    let adam = AdamConfig::new().build();
    let (per_epoch, epochs) = (course.lessons.per_epoch(), course.epochs);
    let steps_in_all = (epochs as usize * per_epoch.div_ceil(course.batch_rows)).max(1);
    let mut step = 0;
    for epoch in 1..=epochs {
        let mut loss_sum = 0.0;
        let mut pictures = course.lessons.epoch();
        loop {
            let batch: Vec<Picture> = pictures.by_ref().take(course.batch_rows).collect();
            if batch.is_empty() {
                break;
            }
            let gone = step as f64 / steps_in_all as f64;
            let rise = if gone < course.warm_up { gone / course.warm_up } else { 1.0 };
            let rate = rise * course.rate * 0.5 * (1.0 + (std::f64::consts::PI * gone).cos());
            loss_sum += learn(&mut network, &adam, rate, &batch, course.pixels, &device)? * batch.len() as f32;
            step += 1;
        }
        progress(Progress { epoch, epoch_count: epochs, loss: loss_sum / per_epoch.max(1) as f32 });
    }
    network.into_weights()
}

/// One step: forward, backward, update. Returns the mean loss.
fn learn(
    network: &mut Network,
    adam: &Adam,
    rate: f64,
    batch: &[Picture],
    pixels: Pixels,
    device: &Device,
) -> Result<f32, JobError> {
    network.bind();
    let input = network::input(&network.program.graph, batch, pixels)?;
    let logits = burn::tensor::Tensor::<2>::from_dispatch(network.logits(input, device)?);
    let mut wanted = vec![0.0f32; batch.len() * CLASSES];
    batch.iter().enumerate().for_each(|(i, p)| wanted[i * CLASSES + usize::from(p.label)] = 1.0);
    let wanted = burn::tensor::Tensor::<2>::from_data(TensorData::new(wanted, [batch.len(), CLASSES]), device);
    let loss = (log_softmax(logits, 1) * wanted).sum().neg().div_scalar(batch.len() as f32);
    let gradients = loss.backward();
    for parameter in network.parameters() {
        parameter.update(adam, rate, &gradients);
    }
    Ok(read(loss.inner())?.first().copied().unwrap_or(f32::NAN))
}

fn read(tensor: burn::tensor::Tensor<1>) -> Result<Vec<f32>, JobError> {
    let data = tensor.try_into_data().map_err(|e| JobError::failed(e.to_string()))?;
    data.try_to_vec::<f32>().map_err(|e| JobError::failed(e.to_string()))
}
