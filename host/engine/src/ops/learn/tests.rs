//! Against Burn's own gradients.

use super::*;
use crate::host::upload;
use crate::ops::conv;
use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor as Wrapped};

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

fn leaf(values: Vec<f32>, device: &Device) -> Wrapped<1> {
    let count = values.len();
    Wrapped::<1>::from_data(TensorData::new(values, [count]), device).require_grad()
}

fn shaped(flat: &Wrapped<1>, shape: &[usize]) -> Tensor {
    crate::ops::reshape(flat.clone().into_dispatch(), shape)
}

fn read(tensor: Tensor) -> Vec<f32> {
    Wrapped::<1>::from_dispatch(tensor).into_data().try_to_vec().unwrap()
}

/// The result, and the gradients of the leaves under a loss that weighs each element of the result differently.
fn learn(leaves: &[Wrapped<1>], result: Tensor) -> (Vec<f32>, Vec<Vec<f32>>) {
    let count = result.shape().num_elements();
    let flat = Wrapped::<1>::from_dispatch(crate::ops::reshape(result, &[count]));
    let weights = Wrapped::<1>::from_data(TensorData::new(wave(count, 0.61), [count]), &flat.device());
    let gradients = (flat.clone() * weights).sum().backward();
    let back = leaves.iter().map(|leaf| read(leaf.grad(&gradients).unwrap().into_dispatch())).collect();
    (read(flat.inner().into_dispatch()), back)
}

#[track_caller]
fn near(got: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1.0f32, |most, v| most.max(v.abs()));
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((got - wanted).abs() < 2e-4 * scale, "{what} {i}: {got} for {wanted}");
    }
}

#[test]
fn convolutions_learn_as_burns_do() {
    let device = Device::flex().autodiff();
    // rows, channels, height, width | out, kernel | stride, pads, groups; some in several groups of rows.
    let cases = [
        ([3, 3, 9, 8], [5, 3, 3], [1, 1], [1, 1, 1, 1], 1),
        ([40, 8, 16, 16], [4, 3, 3], [1, 1], [1, 1, 1, 1], 1),
        ([2, 4, 9, 9], [6, 3, 3], [2, 2], [1, 1, 1, 1], 1),
        ([2, 6, 7, 5], [4, 1, 1], [1, 1], [0, 0, 0, 0], 1),
        ([2, 6, 8, 8], [3, 1, 1], [2, 2], [0, 0, 0, 0], 1),
        ([3, 5, 9, 8], [5, 3, 3], [1, 1], [1, 1, 1, 1], 5),
        ([2, 4, 9, 20], [4, 3, 3], [2, 2], [1, 1, 1, 1], 4),
        ([2, 3, 6, 7], [3, 5, 3], [1, 2], [2, 0, 2, 0], 3),
    ];
    for (shape, [out, kh, kw], stride, pads, groups) in cases {
        let described = Conv { kernel: [kh, kw], stride, pads, dilation: [1, 1], groups };
        let [rows, channels, height, width] = shape;
        let extent = |i: usize, input: usize, kernel: usize| (input + pads[i] + pads[i + 2] - kernel) / stride[i] + 1;
        let output = [extent(0, height, kh), extent(1, width, kw)];
        let weight_shape = [out, channels / groups, kh, kw];
        assert!(takes(&described, &weight_shape));
        let leaves = [
            leaf(wave(shape.iter().product(), 0.37), &device),
            leaf(wave(weight_shape.iter().product(), 0.73), &device),
        ];
        let operands = || (shaped(&leaves[0], &shape), shaped(&leaves[1], &weight_shape));
        let (x, weight) = operands();
        let ours = Dispatch::learning_conv(x, weight, described.clone(), output);
        assert_eq!(ours.shape()[..], [rows, out, output[0], output[1]]);
        let (got, got_back) = learn(&leaves, ours);
        let (x, weight) = operands();
        let (wanted, wanted_back) = learn(&leaves, conv::conv(&described, x, weight, None));
        let name = format!("{shape:?} {described:?}");
        near(&got, &wanted, &name);
        near(&got_back[0], &wanted_back[0], &format!("{name}, gradient of the input"));
        near(&got_back[1], &wanted_back[1], &format!("{name}, gradient of the weights"));
    }
}

#[test]
fn normalising_learns_as_its_formula_does() {
    let device = Device::flex().autodiff();
    let shape = [4, 3, 5, 7];
    let x = wave(shape.iter().product(), 0.37).iter().enumerate().map(|(i, v)| 2.0 * v + (i / 35 % 3) as f32).collect();
    let leaves = [leaf(x, &device), leaf(vec![0.5, 1.5, -1.0], &device), leaf(vec![0.1, 0.0, 3.0], &device)];
    let x = shaped(&leaves[0], &shape);
    let found = statistics(x.clone()).unwrap();
    let ours =
        Dispatch::normalised(x, leaves[1].clone().into_dispatch(), leaves[2].clone().into_dispatch(), found.clone());
    let (got, got_back) = learn(&leaves, ours);

    let x = Wrapped::<4>::from_dispatch(shaped(&leaves[0], &shape));
    let over = |t: Wrapped<4>| t.mean_dim(0).mean_dim(2).mean_dim(3);
    let mean = over(x.clone());
    let centred = x - mean.clone();
    let variance = over(centred.clone() * centred.clone());
    near(&found.mean, &read(mean.inner().into_dispatch()), "mean");
    near(&found.variance, &read(variance.clone().inner().into_dispatch()), "variance");
    let per_channel = |leaf: &Wrapped<1>| leaf.clone().reshape([1, 3, 1, 1]);
    let wanted = centred / (variance + EPSILON).sqrt() * per_channel(&leaves[1]) + per_channel(&leaves[2]);
    let (wanted, wanted_back) = learn(&leaves, wanted.into_dispatch());
    near(&got, &wanted, "result");
    for (i, name) in ["input", "gain", "shift"].iter().enumerate() {
        near(&got_back[i], &wanted_back[i], name);
    }
}

#[test]
fn nothing_is_normal_about_a_constant_but_it_does_no_harm() {
    let x = upload(vec![3.0; 24], &[2, 3, 4], &Device::flex().autodiff());
    let found = statistics(x).unwrap();
    assert_eq!((found.mean, found.variance), (vec![3.0; 3], vec![0.0; 3]));
    let inverse = Statistics { mean: vec![3.0], variance: vec![0.0] }.inverse();
    assert!(inverse[0].is_finite() && inverse[0] > 100.0);
}
