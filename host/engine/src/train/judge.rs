//! How good a trained classifier is, with an interval.

use super::{Pixels, alone, network};
use crate::program::Program;
use crate::{EngineError, JobError};
use bps_data::{CLASSES, Picture};
use bps_graph::{Graph, Limits};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pictures that are judged at once.
const BATCH_ROWS: usize = 64;
/// 95 % of a normal distribution lie within so many deviations.
const Z: f64 = 1.96;

/// How many pictures were told right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Pictures that were told right.
    pub right: usize,
    /// Pictures.
    pub count: usize,
    /// By origin: pictures that were told right, and all.
    origins: BTreeMap<u64, (usize, usize)>,
}

impl Accuracy {
    /// The share that was told right.
    pub fn share(&self) -> f32 {
        self.right as f32 / self.count.max(1) as f32
    }

    /// How many origins the pictures have.
    pub fn origin_count(&self) -> usize {
        self.origins.len()
    }

    /// The interval that holds the true share in 95 of 100 such measurements: Wilson's, for as many pictures as there would
    /// be if each were an independent witness. Pictures of one origin are not: with the variance `v` of the share over
    /// origins, `p (1 - p) / v` independent ones say as much (at least one for each origin, at most one for each picture).
    pub fn interval(&self) -> (f32, f32) {
        let (p, count, origins) = (f64::from(self.share()), self.count.max(1) as f64, self.origins.len().max(1) as f64);
        let apart = |(right, all): &(usize, usize)| *right as f64 - p * *all as f64;
        let squares: f64 = self.origins.values().map(|origin| apart(origin).powi(2)).sum();
        let variance = squares / (count * count) * origins / (origins - 1.0).max(1.0);
        let n = if variance > 0.0 { p * (1.0 - p) / variance } else { origins };
        let n = n.clamp(origins.min(count), count);
        let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
        ((middle - half).max(0.0) as f32, (middle + half).min(1.0) as f32)
    }

    fn count(&mut self, picture: &Picture, right: bool) {
        self.right += usize::from(right);
        self.count += 1;
        let origin = self.origins.entry(picture.origin).or_default();
        *origin = (origin.0 + usize::from(right), origin.1 + 1);
    }
}

/// Runs the model on pictures and counts where the greatest score is the label's.
pub fn accuracy(
    onnx: &[u8],
    pixels: Pixels,
    pictures: impl Iterator<Item = Picture> + Send,
) -> Result<Accuracy, EngineError> {
    let graph = Arc::new(Graph::parse(onnx, &Limits::default())?);
    let found = alone(|_: &mut dyn FnMut(())| count(graph, pixels, pictures), &mut |()| ());
    found.map_err(|source| EngineError::Execution { device: "cpu".into(), source })
}

fn count(graph: Arc<Graph>, pixels: Pixels, mut pictures: impl Iterator<Item = Picture>) -> Result<Accuracy, JobError> {
    let device = Device::flex();
    let program = Program::new(graph.clone(), &device, true).map_err(JobError::failed)?;
    let mut found = Accuracy::default();
    loop {
        let batch: Vec<Picture> = pictures.by_ref().take(BATCH_ROWS).collect();
        if batch.is_empty() {
            return Ok(found);
        }
        let scores = network::scores(&program, network::input(&graph, &batch, pixels)?, &device)?;
        let data = burn::tensor::Tensor::<2>::from_dispatch(scores).try_into_data();
        let scores = data.map_err(|e| JobError::failed(e.to_string()))?.try_to_vec::<f32>();
        let scores = scores.map_err(|e| JobError::failed(e.to_string()))?;
        let best = |row: &[f32]| (0..CLASSES).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        for (row, picture) in scores.chunks_exact(CLASSES).zip(&batch) {
            found.count(picture, best(row) == Some(usize::from(picture.label)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many origins with so many pictures each; `right` says how many of an origin's are.
    fn counted(origins: u64, each: usize, right: impl Fn(u64) -> usize) -> Accuracy {
        let mut found = Accuracy::default();
        for origin in 0..origins {
            let picture = Picture { pixels: vec![], label: 0, origin };
            (0..each).for_each(|i| found.count(&picture, i < right(origin)));
        }
        found
    }

    #[test]
    fn independent_pictures_have_wilsons_interval() {
        let found = counted(1_000, 1, |origin| usize::from(origin % 10 != 0));
        let (low, high) = found.interval();
        assert!((low - 0.8798).abs() < 1e-3 && (high - 0.9171).abs() < 1e-3, "{low} {high}");
        assert_eq!((found.share(), found.origin_count()), (0.9, 1_000));
    }

    #[test]
    fn pictures_of_one_origin_say_no_more_than_it() {
        let alike = counted(100, 50, |origin| if origin % 10 != 0 { 50 } else { 0 });
        let single = counted(100, 1, |origin| usize::from(origin % 10 != 0));
        let ((low, high), (single_low, single_high)) = (alike.interval(), single.interval());
        assert!((low - single_low).abs() < 0.002 && (high - single_high).abs() < 0.002, "{low} {high}");
        let mixed = counted(100, 50, |_| 45);
        assert!(mixed.interval().0 > 0.89, "origins that are alike are as good as independent pictures");
    }

    #[test]
    fn all_right_is_not_certainty() {
        let (low, high) = counted(300, 30, |_| 30).interval();
        assert!(high == 1.0 && (low - 0.9874).abs() < 1e-3, "300 origins, not 9,000: {low}");
        assert_eq!(Accuracy::default().share(), 0.0);
        assert!(Accuracy::default().interval().0 == 0.0);
    }
}
