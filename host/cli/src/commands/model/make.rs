//! `bps model make`: networks without a download.

use crate::model_file;
use crate::output::Output;
use crate::table;
use anyhow::Result;
use bps_graph::topology::{self, Topology};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A network that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Network {
    /// Residual network, 18 layers, 224 x 224.
    Resnet18,
    /// Residual network, 50 layers, 224 x 224.
    Resnet50,
    /// Depthwise network for small devices, 224 x 224.
    #[value(name = "mobilenet-v2")]
    MobilenetV2,
    /// Plain deep network, 16 layers, 224 x 224: heavy.
    Vgg16,
    /// Handwritten digits, 8 x 8; the trained one unless --seed is given.
    Digits,
}

#[derive(Serialize)]
struct Made {
    file: PathBuf,
    bytes: usize,
    trained: bool,
}

/// Writes the file and says what it is.
pub(super) fn run(network: Network, seed: Option<u64>, output: &Path, out: Output) -> Result<()> {
    let topology = match network {
        Network::Resnet18 => Topology::Resnet18,
        Network::Resnet50 => Topology::Resnet50,
        Network::MobilenetV2 => Topology::MobilenetV2,
        Network::Vgg16 => Topology::Vgg16,
        Network::Digits => Topology::DigitsNet,
    };
    let trained = network == Network::Digits && seed.is_none();
    let bytes = if trained { crate::local::DIGITS_ONNX.to_vec() } else { topology::make(topology, seed.unwrap_or(0)) };
    model_file::write(output, &bytes)?;
    let made = Made { file: output.to_owned(), bytes: bytes.len(), trained };
    out.emit(&made, |m| {
        let weights = if m.trained { "trained" } else { "random weights: for timing, its answers mean nothing" };
        let file = m.file.display();
        format!("{file}  {}  {weights}\nserve it:  bps serve --model {file}", table::bytes(m.bytes as u64))
    })
}
