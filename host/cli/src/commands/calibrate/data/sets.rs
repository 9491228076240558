//! The sets that come with bps, as inputs of a model.

use super::{Found, Target, check_row, even};
use crate::commands::calibrate::net::Row;
use crate::exit::usage;
use anyhow::{Context, Result};
use bps_data::{Picture, SIDES, Set, Split, digits};
use bps_engine::PixelInput;
use bps_types::{DataType, HostTensor};

/// The set of this name, if it is one.
pub(super) fn named(name: &std::path::Path) -> Option<Set> {
    name.to_str()?.parse().ok()
}

/// Pictures for tables and pictures for what is lost, which share nothing: in turns, as [`super::halves`] parts them.
pub(super) fn rows(set: Set, count: usize, target: Target<'_>) -> Result<Found> {
    if set == Set::Digits && takes_scans(target) {
        return scans(count, target);
    }
    let to =
        target.pixels.with_context(|| format!("{set}: the model takes no images: its model.toml has no [preprocess]"));
    let to = to.map_err(|e| usage(e.to_string()))?;
    let side = to.height;
    if to.width != side || !SIDES.contains(&side) || to.channels != set.channels() {
        let [small, large] = SIDES;
        let (got, wanted) = (format!("{} x {} in {}", to.height, to.width, to.channels), set.channels());
        return Err(usage(format!(
            "{set} has pictures of {small} x {small} and {large} x {large} in {wanted} channels, the model takes {got}"
        )));
    }
    let pairs = count / 2;
    let tables = bps_data::rows(set, Split::Calibration, side, pairs);
    let losses = bps_data::rows(set, Split::Validation, side, pairs);
    let (mut inputs, mut labels) = (Vec::with_capacity(2 * pairs), Vec::with_capacity(2 * pairs));
    for picture in tables.zip(losses).flat_map(|(a, b)| [a, b]) {
        labels.push(usize::from(picture.label));
        inputs.push(row(picture, to)?);
    }
    Ok((inputs, Some(labels)))
}

/// A picture as image bytes of a model.
fn row(picture: Picture, to: &PixelInput) -> Result<Row> {
    let shape = vec![1, to.height, to.width, to.channels];
    Ok(vec![HostTensor::new(DataType::Uint8, shape, picture.pixels.into())?])
}

/// Whether the model's input is as large as a scan.
fn takes_scans(target: Target<'_>) -> bool {
    let side = Some(digits::SIDE);
    target.graph.inputs.first().is_some_and(|input| input.shape.ends_with(&[side, side]))
}

/// Scans that the net was trained with for tables, and those held out, of which it has seen nothing, for what is lost.
fn scans(rows: usize, target: Target<'_>) -> Result<Found> {
    let (trained, held_out) = (digits::train(), digits::held_out());
    let side = digits::SIDE;
    let pairs = (rows / 2).min(trained.len()).min(held_out.len());
    let turns = even(trained.len(), pairs).zip(even(held_out.len(), pairs));
    let chosen: Vec<&digits::Digit> = turns.flat_map(|(a, b)| [&trained[a], &held_out[b]]).collect();
    let row = |digit: &digits::Digit| -> Result<Row> {
        if target.pixels.is_some() {
            return Ok(vec![HostTensor::new(DataType::Uint8, vec![1, side, side, 1], digit.pixels.to_vec().into())?]);
        }
        let values = digit.pixels.map(|p| f32::from(p) / 255.0);
        Ok(vec![HostTensor::from_f32(vec![1, 1, side, side], &values)?])
    };
    let labels = chosen.iter().map(|digit| usize::from(digit.label)).collect();
    let inputs: Vec<Row> = chosen.into_iter().map(row).collect::<Result<_>>()?;
    if let Some(first) = inputs.first() {
        check_row(&first[0], target).context("the digits do not fit the model")?;
    }
    Ok((inputs, Some(labels)))
}
