//! The published figures of each network.

use super::*;
use crate::{Graph, Limits, Op};

#[test]
fn names_round_trip() {
    for topology in Topology::ALL {
        assert_eq!(topology.to_string().parse(), Ok(topology));
    }
    assert!("resnet".parse::<Topology>().unwrap_err().contains("resnet18, resnet50"));
}

/// Parameters as torchvision counts them (statistics are not parameters), and multiply-adds in millions.
const FIGURES: [(Topology, usize, f64); 4] = [
    (Topology::Resnet18, 11_689_512, 1_814.0),
    (Topology::Resnet50, 25_557_032, 4_089.0),
    (Topology::MobilenetV2, 3_504_872, 300.8),
    (Topology::Vgg16, 138_357_544, 15_470.0),
];

#[test]
fn parameters_and_multiply_adds_are_the_published_ones() {
    for (topology, parameters, million_multiply_adds) in FIGURES {
        let builder = topology.describe();
        let counted = builder.weights().filter(|(n, _)| !n.contains("running_") && !n.starts_with("relu6"));
        assert_eq!(counted.map(|(_, s)| s.iter().product::<usize>()).sum::<usize>(), parameters, "{topology}");

        let graph = crate::lower::lower(&builder.blank(), &Limits::default(), None).unwrap();
        let shapes = graph.row_shapes().unwrap();
        let heavy = |op: &Op| matches!(op, Op::Conv(_) | Op::Gemm(_));
        let layers = graph.layers.iter().enumerate().filter(|(_, l)| heavy(&l.op));
        let got = layers.map(|(i, _)| graph.flops(i, &shapes)).sum::<u64>() as f64 / 2e6;
        assert!((got / million_multiply_adds - 1.0).abs() < 0.01, "{topology}: {got} million multiply-adds");
        assert!(!graph.layers.iter().any(|l| matches!(l.op, Op::BatchNormalization { .. })), "{topology}");
        assert_eq!(shapes.of(graph.output_values[0]), [1, 1000]);
    }
}

#[test]
fn digits_net_keeps_every_constant_by_name() {
    let graph = Graph::parse(&make(Topology::DigitsNet, 7), &Limits::default()).unwrap();
    let builder = Topology::DigitsNet.describe();
    let mut written: Vec<_> = builder.weights().map(|(n, s)| (n.to_owned(), s.to_vec())).collect();
    let constant = |v: &crate::Value| match &v.source {
        crate::Source::Constant(t) => Some((v.name.clone(), t.shape().to_vec())),
        _ => None,
    };
    let mut kept: Vec<_> = graph.values.iter().filter_map(constant).collect();
    written.sort();
    kept.sort();
    assert_eq!(kept, written);
    assert!((10_000..50_000).contains(&graph.parameter_count()), "{}", graph.parameter_count());
    assert!(graph.batchable);
    assert_eq!(graph.infer(&[vec![5, 1, 8, 8]]).unwrap().of(graph.output_values[0]), [5, 10]);
}
