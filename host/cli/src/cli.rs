//! The command line: its grammar, and the dispatch to commands.

use crate::commands::{
    bench, calibrate, codec, completions, demo, devices, infer, model, pair, peers, policy, profile, receipts, serve,
    testbed, unpair,
};
use crate::logging::{self, LogFormat};
use crate::output::{Format, Output};
use anyhow::{Context, Result};
use clap::Parser;
use std::time::Duration;

const START: &str = "\
Start here
  bps                                     the demo: half a minute, nothing to prepare
  bps model make resnet18 -o net.onnx     a network to play with
  bps serve --model net.onnx              serve it; the start-up summary shows how to ask
  bps policy list, bps policy swap NAME   change the scheduling policy of the running host, losing nothing
  bps help COMMAND                        what a command does and how to choose its options";

/// Inference host for the edge: ONNX models on any device, scheduled by sandboxed policies that are replaced while
/// requests are in flight.
///
/// Without a command, `bps` runs the demo.
#[derive(Debug, Parser)]
#[command(name = "bps", version, after_long_help = format!("{START}\n\n{}", crate::exit::EXIT_CODES))]
#[command(after_help = "`bps help COMMAND` explains more than `bps COMMAND -h`.")]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
struct Global {
    /// How data is written to stdout.
    #[arg(long, global = true, value_enum, default_value_t, env = "BPS_FORMAT", help_heading = "Everywhere")]
    format: Format,
    /// How logs are written to stderr.
    #[arg(long, global = true, value_enum, default_value_t, env = "BPS_LOG_FORMAT", help_heading = "Everywhere")]
    log_format: LogFormat,
    /// What is logged: a level, or crate=level pairs, as in `info,bps_node=debug`.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "warn",
        env = "BPS_LOG",
        help_heading = "Everywhere"
    )]
    log: String,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// See policies being swapped under load, on real digits, in half a minute.
    Demo(demo::DemoArgs),
    Serve(Box<serve::ServeArgs>),
    Infer(infer::InferArgs),
    Devices(devices::DevicesArgs),
    Profile(profile::ProfileArgs),
    Model(model::ModelArgs),
    Calibrate(Box<calibrate::CalibrateArgs>),
    Codec(Box<codec::CodecArgs>),
    Policy(policy::PolicyArgs),
    Receipts(receipts::ReceiptsArgs),
    Pair(pair::PairArgs),
    Unpair(unpair::UnpairArgs),
    Peers(peers::PeersArgs),
    Bench(bench::BenchArgs),
    Testbed(Box<testbed::TestbedArgs>),
    Completions(completions::CompletionsArgs),
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> Result<()> {
    let cli = Cli::parse();
    logging::start(cli.global.log_format, &cli.global.log)?;
    let out = Output { format: cli.global.format };
    match cli.command.unwrap_or_else(|| Command::Demo(demo::DemoArgs::default())) {
        Command::Demo(args) => wait(demo::run(args, out)),
        Command::Serve(args) => wait(serve::run(*args)),
        Command::Infer(args) => wait(infer::run(args, out)),
        Command::Devices(_) => devices::run(out),
        Command::Profile(args) => profile::run(&args, out),
        Command::Model(args) => model::run(&args, out),
        Command::Calibrate(args) => calibrate::run(&args, out),
        Command::Codec(args) => codec::run(&args, out),
        Command::Policy(args) => wait(policy::run(args, out)),
        Command::Receipts(args) => wait(receipts::run(args, out)),
        Command::Pair(args) => wait(pair::run(args, out)),
        Command::Unpair(args) => unpair::run(args, out),
        Command::Peers(args) => wait(peers::run(args, out)),
        Command::Bench(args) => wait(bench::run(args, out)),
        Command::Testbed(args) => wait(testbed::run(*args, out)),
        Command::Completions(args) => completions::run(&args),
    }
}

/// How long threads may take to end. Those that outlive `main` may meet the destructors of graphics libraries.
const ENDING: Duration = Duration::from_millis(500);

/// Runs a command that waits for the network. A file read that hangs must not keep the program from ending.
fn wait(command: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime did not start")?;
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(ENDING);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_means_the_demo() {
        assert!(Cli::try_parse_from(["bps"]).unwrap().command.is_none());
        let explicit = Cli::try_parse_from(["bps", "demo"]).unwrap().command;
        let Some(Command::Demo(args)) = explicit else { panic!("not the demo") };
        assert_eq!(args, demo::DemoArgs::default());
    }

    #[test]
    fn lines_that_parse() {
        for line in [
            "bps --format json devices",
            "bps devices --format json --log debug",
            "bps serve --model a.onnx --model b.onnx --device cpu:2 --device gpu:0,slowdown=4",
            "bps serve --policy-config {} --admin unix:/tmp/x --activate-on-drop",
            "bps infer --model m --input x=a.npy --input b.png --timeout 50ms",
            "bps model make resnet18 --seed 3 -o r.onnx",
            "bps model train digits --epochs 2 -o d.onnx",
            "bps policy swap batching --config {} --no-state --no-rehearse",
            "bps policy rollback --admin unix:/x",
            "bps policy replay r.bpsrec --policy p.wasm --diff",
            "bps profile m.onnx --device cpu --batch 1,2,4 --layers",
            "bps codec list --format json",
            "bps codec encode a.npy -o a.bpsc --codec ff-h --rate 20 --package m.ff --cut c --entropy zstd --order nhwc",
            "bps codec decode a.bin -o a.npy --codec raw --shape 1,2 --data-type int8 --device gpu:0",
            "bps receipts --last 3",
            "bps peers --format json --admin unix:/x",
            "bps pair --format json --listen 127.0.0.1:0 --wait 30s --allow execute",
            "bps pair 10.0.0.2:7861 K7QF-2M9X-8RTD --window 4 --bytes-max 1GiB --peer-port none",
            "bps unpair edge --state-dir /tmp/x",
            "bps bench swap --swaps 10",
            "bps bench kernels --device software --elements 65536 --rounds 3",
            "bps testbed --short --format json",
            "bps testbed --model resnet18 --slowdown 4,16 --link 10Mbit/20ms --policy bps --kill-peer-at 5s --trace t.json",
            "bps completions zsh",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn lines_that_do_not() {
        for (line, kind) in [
            ("bps fly", ErrorKind::InvalidSubcommand),
            ("bps serve --prot 1", ErrorKind::UnknownArgument),
            ("bps infer --model m", ErrorKind::MissingRequiredArgument),
            ("bps infer --model m --input [1] --url https://x", ErrorKind::ValueValidation),
            ("bps devices --format xml", ErrorKind::InvalidValue),
            ("bps serve --drain-timeout soon", ErrorKind::ValueValidation),
            ("bps bench decide --rounds 0", ErrorKind::ValueValidation),
            ("bps receipts --last 0", ErrorKind::ValueValidation),
            ("bps bench link --over 10Mbit/20ms --span 0s", ErrorKind::ValueValidation),
            ("bps serve --model a.onnx --max-accuracy-loss 1", ErrorKind::ValueValidation),
            ("bps pair host CODE --wait 5s", ErrorKind::ArgumentConflict),
            ("bps unpair", ErrorKind::MissingRequiredArgument),
            ("bps codec encode a.npy -o b --bound 0", ErrorKind::ValueValidation),
            ("bps codec decode a -o b --cut c", ErrorKind::MissingRequiredArgument),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn every_command_teaches() {
        for command in Cli::command().get_subcommands_mut().filter(|c| c.get_name() != "help") {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            assert!(command.get_about().is_some(), "{name} says nothing");
            assert!(help.len() > 200, "{name}: {help}");
        }
    }
}
