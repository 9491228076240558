//! `bps model train`: a model from data that comes with bps.

use crate::model_file;
use crate::output::Output;
use crate::progress;
use crate::table;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Passes that reach what this network can.
pub(super) const EPOCHS: u32 = 40;

/// What can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Task {
    /// Handwritten digits, 8 x 8 scans, 10 classes.
    Digits,
}

#[derive(Serialize)]
struct Trained {
    file: PathBuf,
    bytes: usize,
    epochs: u32,
    seed: u64,
    held_out_accuracy: f32,
    held_out_count: usize,
}

/// Trains, writes the file, and says how good it is.
pub(super) fn run(task: Task, seed: u64, epochs: u32, output: &Path, out: Output) -> Result<()> {
    model_file::target(output)?; // said before minutes of training, not after
    let Task::Digits = task;
    let bar = progress::bar(epochs.into(), "training on digits");
    let trained = bps_engine::train::train_digits(seed, epochs, &mut |p| {
        bar.set_position(p.epoch.into());
        bar.set_message(format!("training, loss {:.4}", p.loss));
    });
    bar.finish_and_clear();
    let trained = trained.context("the training failed")?;
    model_file::write(output, &trained.onnx)?;
    let report = Trained {
        file: output.to_owned(),
        bytes: trained.onnx.len(),
        epochs,
        seed,
        held_out_accuracy: trained.accuracy,
        held_out_count: trained.held_out_count,
    };
    out.emit(&report, |r| {
        format!(
            "{}  {}\naccuracy  {} of {} digits that training did not see",
            r.file.display(),
            table::bytes(r.bytes as u64),
            table::percent(r.held_out_accuracy.into()),
            r.held_out_count
        )
    })
}
