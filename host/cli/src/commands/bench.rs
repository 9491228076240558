//! `bps bench`: figures anyone can reproduce on their own machine.

mod codec;
mod decide;
mod kernels;
mod link;
mod serve;
mod swap;

use crate::config;
use crate::exit::EXIT_CODES;
use crate::output::Output;
use anyhow::Result;
use std::time::Duration;

const TEACH: &str = "\
Each benchmark runs by itself, in this process, with nothing to prepare. Figures are medians; ratios compare rounds that took
turns, so that a machine that changes its speed changes both sides. Close other programs; on a laptop, plug in. Every figure
is of this machine: compare ratios, not times, with somebody else's.";

/// Measure what the host costs: a decision, a swap, a served request, the way to another host, a device's kernels; and FF beside
/// other codecs.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{EXIT_CODES}"))]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum BenchCommand {
    /// Time of one decision: the crossing into WebAssembly, a full decision, the same natively, each policy.
    Decide {
        /// Decisions per round.
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
        iterations: u32,
        /// Rounds; the median of each figure is shown.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
    },
    Codec(Box<codec::CodecBenchArgs>),
    /// Swap policies again and again under load: pauses, lost requests, memory. Exit code 1 if one is lost.
    Swap {
        /// Swaps.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        swaps: u32,
        /// Requests kept under way.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        clients: u32,
    },
    /// Echo activations on loopback: each carrier against bare TCP with TLS, with the processor time of both.
    Link(link::LinkBenchArgs),
    /// Check a device's kernels against their references and time codecs there. Exit code 1 if one is off.
    ///
    /// Encoding is measured from a tensor on the device to packed bytes in host memory, decoding the other way; both
    /// against a pass that reads the tensor and writes it once.
    Kernels {
        /// A GPU, or `software`, as in `bps serve`.
        #[arg(long, value_name = "DEVICE", default_value = "gpu:0")]
        device: String,
        /// Of the tensor, about: 16 maps.
        #[arg(long, default_value_t = 1 << 23, value_parser = clap::value_parser!(u32).range(1_024..=1 << 27))]
        elements: u32,
        /// Rounds in which the codecs take turns.
        #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
    },
    /// Serve digits over HTTP on loopback: overhead at low load, throughput at saturation, for each policy.
    ///
    /// Overhead is the time from sending a request to its whole answer, less its time on the device: HTTP, JSON, queue,
    /// decision. The load generator shares the machine, so throughput is what host and clients reach together.
    Serve {
        /// Requests per second of the low load.
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: u32,
        /// Clients that ask without pause, for saturation.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        clients: u32,
        /// Time for each measurement.
        #[arg(long, default_value = "2s", value_parser = config::span)]
        span: Duration,
        /// Rounds in which the policies take turns.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        /// A device, as in `bps serve`; repeat for more.
        #[arg(long, value_name = "DEVICE", default_value = "cpu")]
        device: Vec<String>,
    },
}

/// Runs one.
pub(crate) async fn run(args: BenchArgs, out: Output) -> Result<()> {
    match args.command {
        BenchCommand::Decide { iterations, rounds } => decide::run(iterations, rounds, out),
        BenchCommand::Codec(args) => codec::run(&args, out),
        BenchCommand::Swap { swaps, clients } => swap::run(swaps, clients as usize, out).await,
        BenchCommand::Kernels { device, elements, rounds } => kernels::run(&device, elements as usize, rounds, out),
        BenchCommand::Link(args) => link::run(&args, out).await,
        BenchCommand::Serve { rate, clients, span, rounds, device } => {
            let setup = serve::Setup { rate, clients: clients as usize, span, rounds, devices: device };
            serve::run(&setup, out).await
        }
    }
}
