//! Training end to end, short.

use bps_engine::train::train_digits;
use bps_graph::{Graph, Limits};

#[test]
fn three_epochs_teach_most_digits_and_repeat_exactly() {
    let mut losses = vec![];
    let trained = train_digits(5, 3, &mut |p| losses.push(p.loss)).unwrap();
    assert_eq!((losses.len(), trained.held_out_count), (3, 500));
    assert!(losses[2] < losses[0] * 0.7, "{losses:?}");
    assert!(trained.accuracy > 0.8, "{}", trained.accuracy);
    Graph::parse(&trained.onnx, &Limits::default()).unwrap();
    assert_eq!(train_digits(5, 3, &mut |_| ()).unwrap().onnx, trained.onnx);
}
