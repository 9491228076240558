//! `bps codec`: what codecs make of activations of your own.

mod choice;
mod container;
mod decode;
mod difference;
mod encode;
mod list;
mod place;
#[cfg(test)]
mod tests;

use crate::exit::{EXIT_CODES, usage};
use crate::model_file;
use crate::output::Output;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

const TEACH: &str = "\
A codec is how a tensor travels between hosts. `list` shows those there are. `encode` makes a
codec's bytes of an activation and says what that costs: bits, time, error. `decode` makes a tensor
of the bytes again. Both ends are files that other programs write and read, so a codec can be tried
on your own network, and its error seen in your own figures.

From an activation to figures
  bps codec list
  bps codec encode act.npy -o act.bpsc --codec ff-h --rate 16
  bps codec decode act.bpsc -o back.npy
  In Python: numpy.save('act.npy', x.astype(numpy.float32)) before, numpy.load('back.npy') after.
  Rows come first: [rows, channels, height, width] or [rows, features]; for jpeg images, UINT8
  [rows, height, width, channels].

How to choose
  raw, f16, int8  32, 16 and 8 bits an element, for next to no time; GPUs have kernels for them
  ..-zstd         the same, smaller and slower
  ff-s            few bits, quick, on GPUs too. --rate 0 (finest) to 31, each with 2^(1/4) times coarser steps
  ff-h            fewer bits where maps are smooth; ff-h1 and ff-h2 with one level or two, always
  ff-c            the same with errors that cancel in the model's answers: fewer bits again, and three to four times the
                  time to encode; only with --package, and where calibration found how, else it is ff-h
  --bound ABS     FF that lets no element be off by more; the rate is then only a label
  --package FILE  FF with what was calibrated for the model, where there is such a file

A program of your own
  --raw-frame writes nothing but what a host would send; decode then needs --codec and --shape.
  --format json gives every figure to a program. The layout of the file without --raw-frame is in
  host/cli/src/commands/codec/container.rs.";

/// Encode and decode activations with any codec: bits, time, error.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{EXIT_CODES}"))]
pub(crate) struct CodecArgs {
    #[command(subcommand)]
    command: CodecCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum CodecCommand {
    /// List every codec: its rates, what it takes, and the bits it is assumed to need.
    List,
    Encode(encode::EncodeArgs),
    Decode(decode::DecodeArgs),
}

/// Does what the subcommand says.
pub(crate) fn run(args: &CodecArgs, out: Output) -> Result<()> {
    match &args.command {
        CodecCommand::List => list::run(out),
        CodecCommand::Encode(args) => out.emit(&encode::run(args)?, encode::text),
        CodecCommand::Decode(args) => out.emit(&decode::run(args)?, decode::text),
    }
}

/// An output that is the input would take its place.
fn keep_input(input: &Path, output: &Path) -> Result<()> {
    if model_file::is_same(input, output) {
        return Err(usage(format!("--output {} is an input: choose another file", output.display())));
    }
    Ok(())
}

/// Reads a file of at most so many bytes, whatever its length is said to be.
pub(in crate::commands) fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() > bytes_max {
        bail!("{} has more than the {bytes_max} bytes that are read", path.display());
    }
    Ok(bytes)
}
