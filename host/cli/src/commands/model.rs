//! `bps model`: look into a model file, make one, train one.

mod make;
mod show;
mod train;

use crate::output::Output;
use anyhow::Result;
use std::path::PathBuf;

/// Look into a model file, make one, or train one.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum ModelCommand {
    /// Show a model's layers, legal cut points, work and weights.
    ///
    /// A cut is a place where execution may move to another device; "crosses" is what would travel there for one row, in
    /// FP32. A policy that splits models looks for a cut late enough to have done work and narrow enough to be sent.
    Show {
        /// The .onnx file, or a folder with model.onnx.
        file: PathBuf,
    },
    /// Make a well-known network with seeded random weights.
    ///
    /// For timing and trying things out: its structure and cost are real, its answers mean nothing. Except `digits`,
    /// which is the trained model of the demo unless a seed is given.
    Make {
        /// Which network.
        #[arg(value_enum)]
        topology: make::Network,
        /// What the weights are drawn from [default: 0].
        #[arg(long)]
        seed: Option<u64>,
        /// Where to write it.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    Train(train::TrainArgs),
}

/// Does what the subcommand says.
pub(crate) fn run(args: &ModelArgs, out: Output) -> Result<()> {
    match &args.command {
        ModelCommand::Show { file } => show::run(file, out),
        ModelCommand::Make { topology, seed, output } => make::run(*topology, *seed, output, out),
        ModelCommand::Train(args) => train::run(args, out),
    }
}
