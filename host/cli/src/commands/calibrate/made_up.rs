//! Inputs for models that come without data: noise that is smoothed a little, as neighbours in pictures are alike.

use super::net::Row;
use anyhow::{Context, Result};
use bps_engine::PixelInput;
use bps_graph::Graph;
use bps_types::{DataType, HostTensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What the noise is drawn from, together with the row's number.
const SEED: u64 = 0x6265_7073;
/// How far noise is smeared, in elements to each side; row after row the next one.
const REACH: [usize; 4] = [1, 0, 2, 4];
/// Mean and deviation of made-up image bytes.
const SHADE: (f32, f32) = (118.0, 58.0);

/// So many rows for each of the model's inputs: of mean zero and deviation one, image bytes where the model takes those.
pub(super) fn rows(graph: &Graph, pixels: Option<&PixelInput>, count: usize) -> Result<Vec<Row>> {
    let one = |row: usize| -> Result<Row> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED + row as u64);
        let reach = REACH[row % REACH.len()];
        let mut tensors = Vec::with_capacity(graph.inputs.len());
        for (index, spec) in graph.inputs.iter().enumerate() {
            if let Some(to) = pixels.filter(|p| p.input == index) {
                tensors.push(image(to, reach, &mut random)?);
                continue;
            }
            let rest: Option<Vec<usize>> = spec.shape.iter().skip(1).copied().collect();
            let rest = rest.with_context(|| format!("input {} leaves extents open besides the batch", spec.name))?;
            let shape = [vec![1], rest].concat();
            let (height, width) = match shape[..] {
                [_, _, height, width] => (height, width),
                [_, _, width] => (1, width),
                _ => (1, 1),
            };
            let maps = shape.iter().product::<usize>() / (height * width).max(1);
            let values: Vec<f32> = (0..maps).flat_map(|_| map(height, width, reach, &mut random)).collect();
            tensors.push(HostTensor::from_f32(shape, &values)?);
        }
        Ok(tensors)
    };
    (0..count).map(one).collect()
}

fn image(to: &PixelInput, reach: usize, random: &mut ChaCha8Rng) -> Result<HostTensor> {
    let maps: Vec<Vec<f32>> = (0..to.channels).map(|_| map(to.height, to.width, reach, random)).collect();
    // A saturating cast is what clamping would do.
    let byte = |value: f32| (SHADE.0 + SHADE.1 * value).round() as u8;
    let pixels = (0..to.height * to.width).flat_map(|at| maps.iter().map(move |map| byte(map[at])));
    let data: Vec<u8> = pixels.collect();
    Ok(HostTensor::new(DataType::Uint8, vec![1, to.height, to.width, to.channels], data.into())?)
}

/// One map of mean zero and deviation one (a map of one element: a number of a distribution of these).
fn map(height: usize, width: usize, reach: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    let mut values: Vec<f32> = (0..height * width).map(|_| normal(random)).collect();
    if values.len() < 4 {
        return values;
    }
    if reach > 0 {
        values = smeared(&values, height, width, (1, width), reach);
        values = smeared(&values, width, height, (width, 1), reach);
    }
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count).sqrt().max(1e-6);
    values.iter().map(|v| (v - mean) / deviation).collect()
}

/// The sum of twelve uniform numbers, less their mean, has deviation one.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| (random.next_u32() >> 8) as f32 / 16_777_216.0).sum::<f32>() - 6.0
}

/// Means over `reach` elements to each side along lines; `(step, line)` are the distances of elements and of lines.
fn smeared(map: &[f32], lines: usize, length: usize, (step, line): (usize, usize), reach: usize) -> Vec<f32> {
    let mut out = vec![0.0; map.len()];
    for first in (0..lines).map(|l| l * line) {
        for i in 0..length {
            let (from, until) = (i.saturating_sub(reach), (i + reach + 1).min(length));
            let sum: f32 = (from..until).map(|j| map[first + j * step]).sum();
            out[first + i * step] = sum / (until - from) as f32;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_graph::Limits;
    use bps_graph::topology::{self, Topology};

    #[test]
    fn rows_follow_from_the_seed_and_look_like_inputs() {
        let graph = Graph::parse(&topology::make(Topology::DigitsNet, 0), &Limits::default()).unwrap();
        let rows = rows(&graph, None, 6).unwrap();
        assert_eq!(rows, super::rows(&graph, None, 6).unwrap());
        assert_ne!(rows[0], rows[4]);
        for row in &rows {
            let values = row[0].to_f32().unwrap();
            let mean = values.iter().sum::<f32>() / 64.0;
            let square = values.iter().map(|v| v * v).sum::<f32>() / 64.0;
            assert_eq!(row[0].shape(), [1, 1, 8, 8]);
            assert!(mean.abs() < 1e-3 && (square - 1.0).abs() < 1e-3, "{mean} {square}");
        }
    }

    #[test]
    fn images_are_bytes_of_all_shades() {
        let graph = Graph::parse(&topology::make(Topology::DigitsNet, 0), &Limits::default()).unwrap();
        let pixels = PixelInput { input: 0, height: 8, width: 8, channels: 1, mean: vec![0.0], scale: vec![1.0] };
        let rows = rows(&graph, Some(&pixels), 8).unwrap();
        let all: Vec<u8> = rows.iter().flat_map(|row| row[0].data().to_vec()).collect();
        assert_eq!((rows[0][0].shape(), rows[0][0].data_type()), (&[1, 8, 8, 1][..], DataType::Uint8));
        assert!(all.iter().any(|b| *b < 40) && all.iter().any(|b| *b > 200));
    }

    #[test]
    fn smearing_makes_neighbours_alike() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let rough = |map: &[f32]| {
            let side = 20;
            let along = (0..side * side - 1).filter(|i| i % side + 1 < side).map(|i| (map[i] - map[i + 1]).powi(2));
            let down = (0..side * (side - 1)).map(|i| (map[i] - map[i + side]).powi(2));
            (along.sum::<f32>(), down.sum::<f32>())
        };
        let sharp = rough(&map(20, 20, 0, &mut random));
        let soft = rough(&map(20, 20, 2, &mut random));
        assert!(soft.0 < 0.5 * sharp.0 && soft.1 < 0.5 * sharp.1, "{soft:?} {sharp:?}");
    }
}
