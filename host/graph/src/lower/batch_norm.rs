//! Folds a normalisation with stored statistics into the convolution before it.

use crate::ir::{Layer, Op, Source, Value, ValueId};
use bps_types::HostTensor;
use std::collections::HashMap;
use std::sync::Arc;

/// Rewrites every `Conv -> BatchNormalization` whose intermediate has no other reader; the convolution then makes the
/// normalised value. A weight that several layers share is left alone: copies of it could multiply memory.
pub(super) fn fold(layers: &mut Vec<Layer>, values: &mut Vec<Value>, outputs: &[ValueId]) {
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    let reads = layers.iter().flat_map(|l| l.inputs.iter().flatten());
    reads.chain(outputs).for_each(|v| *readers.entry(*v).or_default() += 1);
    let once = |v: ValueId| readers.get(&v) == Some(&1);

    let mut dropped = vec![false; layers.len()];
    for index in 0..layers.len() {
        let Op::BatchNormalization { epsilon } = layers[index].op else { continue };
        let Some(data) = layers[index].inputs.first().copied().flatten() else { continue };
        let Source::Layer(before) = values[data.index()].source else { continue };
        let conv = &layers[before];
        let weight = conv.inputs.get(1).copied().flatten();
        let foldable = matches!(conv.op, Op::Conv(_)) && once(data) && weight.is_some_and(once);
        let Some(folded) = foldable.then(|| fold_one(conv, &layers[index], epsilon, values)).flatten() else {
            continue;
        };
        let output = layers[index].outputs[0];
        values[output.index()].source = Source::Layer(before);
        let mut add = |kind: &str, tensor: HostTensor| {
            let name = format!("{}/folded_{kind}", values[output.index()].name);
            values.push(Value { name, source: Source::Constant(Arc::new(tensor)) });
            u32::try_from(values.len() - 1).ok().map(ValueId)
        };
        let (weight, bias) = (add("weight", folded.0), add("bias", folded.1));
        layers[before].inputs = vec![layers[before].inputs[0], weight, bias];
        layers[before].outputs = vec![output];
        dropped[index] = true;
    }
    remove(layers, values, &dropped);
}

/// Removes layers and renumbers what the others make.
pub(super) fn remove(layers: &mut Vec<Layer>, values: &mut [Value], dropped: &[bool]) {
    let mut place = 0;
    let mut index = 0;
    layers.retain(|layer| {
        let kept = !dropped[index];
        if kept {
            layer.outputs.iter().for_each(|v| values[v.index()].source = Source::Layer(place));
            place += 1;
        }
        index += 1;
        kept
    });
}

/// The constant behind an operand.
fn constant(layer: &Layer, index: usize, values: &[Value]) -> Option<Vec<f32>> {
    let id = layer.inputs.get(index).copied().flatten()?;
    if let Source::Constant(tensor) = &values[id.index()].source { tensor.to_f32().ok() } else { None }
}

/// Weight and bias of the convolution that does both; none where something is not constant.
fn fold_one(conv: &Layer, norm: &Layer, epsilon: f32, values: &[Value]) -> Option<(HostTensor, HostTensor)> {
    let weight_id = conv.inputs.get(1).copied().flatten()?;
    let Source::Constant(weight) = &values[weight_id.index()].source else { return None };
    let (shape, channels) = (weight.shape().to_vec(), weight.rows());
    let bias = match conv.inputs.get(2).copied().flatten() {
        Some(_) => constant(conv, 2, values)?,
        None => vec![0.0; channels],
    };
    let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|i| constant(norm, i, values));
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    if channels == 0 || [&bias, &scale, &shift, &mean, &variance].iter().any(|v| v.len() != channels) {
        return None;
    }
    let mut new_weight = weight.to_f32().ok()?;
    let mut new_bias = Vec::with_capacity(channels);
    let filter = new_weight.len() / channels;
    for channel in 0..channels {
        // in double precision: one rounding per weight, and square roots are exact everywhere
        let factor = f64::from(scale[channel]) / (f64::from(variance[channel]) + f64::from(epsilon)).sqrt();
        new_weight[channel * filter..][..filter].iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        let centred = f64::from(bias[channel]) - f64::from(mean[channel]);
        new_bias.push((centred * factor + f64::from(shift[channel])) as f32);
    }
    let bias = HostTensor::from_f32(vec![channels], &new_bias).ok()?;
    Some((HostTensor::from_f32(shape, &new_weight).ok()?, bias))
}
