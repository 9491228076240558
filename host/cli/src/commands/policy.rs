//! `bps policy`: look at policies, try them, and change the one that decides in a running host.

mod local;
mod remote;
mod status;

use crate::admin::AdminArgs;
use crate::config;
use crate::output::Output;
use anyhow::Result;
use std::path::PathBuf;

const TEACH: &str = "\
A policy is a WebAssembly component that decides what runs next, where, and with which batch size. The host checks every
decision, owns every request, and replaces the policy while requests are in flight.

From file to traffic
  bps policy inspect my.wasm          who it says it is, what it imports, how it is configured
  bps policy check my.wasm            loads it as a host would and rehearses it on a thousand synthetic situations
  bps policy load my.wasm             hands it to the running host, where it waits
  bps policy swap my-policy           makes it decide; the previous one is kept for `bps policy rollback`
  bps policy status                   how it does: decision times, faults, the account of every request
  bps policy replay calls.bpsrec      the same calls again, offline, decision by decision (record: bps serve --record)

inspect, check and replay need no host; list shows what comes with bps when no host answers.";

/// Look at scheduling policies, try them, and swap the one that decides in a running host.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum PolicyCommand {
    /// List the policies of the running host; without one, those that come with bps.
    List,
    /// Show what a component says about itself, without running a host.
    Inspect {
        /// A component file, or the name of a policy that comes with bps.
        policy: String,
    },
    /// Load a component as a host would and rehearse it; exit code 1 if it would be refused.
    Check {
        /// A component file, or the name of a policy that comes with bps.
        policy: String,
        #[command(flatten)]
        setup: Setup,
    },
    /// Hand a component to the running host, where it waits to be swapped in.
    Load {
        /// The component file.
        file: PathBuf,
    },
    /// Make another policy decide in the running host, losing no request.
    Swap {
        /// A name, NAME@VERSION, or at least 6 digits of a digest.
        policy: String,
        #[command(flatten)]
        setup: Setup,
        /// Do not offer it the state of the policy it replaces.
        #[arg(long)]
        no_state: bool,
        /// Do not rehearse it first.
        #[arg(long)]
        no_rehearse: bool,
    },
    /// Go back to the policy before the active one.
    Rollback,
    /// Show the active policy and how it does.
    Status,
    /// Feed the calls of a recording to a policy again and compare its decisions; exit code 1 if the recorded policy decides otherwise now.
    Replay {
        /// A recording made by `bps serve --record`.
        recording: PathBuf,
        /// Another policy to feed them to, a component file or a name: shows how it decides, and differing is no error [default: the
        /// one that was recorded].
        #[arg(long, value_name = "NAME|FILE")]
        policy: Option<String>,
        /// Show the decisions that differ.
        #[arg(long)]
        diff: bool,
    },
}

/// How a policy is set up.
#[derive(Clone, Debug, clap::Args)]
struct Setup {
    /// Its configuration: JSON, or @FILE with JSON or TOML [default: its own defaults].
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// What its random choices are drawn from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Setup {
    fn config(&self) -> Result<String> {
        self.config.as_deref().map_or_else(|| Ok(String::new()), |text| config::policy_config(text, "--config"))
    }
}

/// Does what the subcommand says.
pub(crate) async fn run(args: PolicyArgs, out: Output) -> Result<()> {
    let admin = args.admin;
    match args.command {
        PolicyCommand::List => remote::list(&admin, out).await,
        PolicyCommand::Inspect { policy } => local::inspect(&policy, out),
        PolicyCommand::Check { policy, setup } => local::check(&policy, &setup.config()?, setup.seed, out),
        PolicyCommand::Load { file } => remote::load(&admin, &file, out).await,
        PolicyCommand::Swap { policy, setup, no_state, no_rehearse } => {
            let request = serde_json::json!({
                "policy": policy, "config": setup.config()?, "seed": setup.seed,
                "carry_state": !no_state, "rehearse": !no_rehearse,
            });
            remote::swap(&admin, &request, out).await
        }
        PolicyCommand::Rollback => remote::rollback(&admin, out).await,
        PolicyCommand::Status => remote::status(&admin, out).await,
        PolicyCommand::Replay { recording, policy, diff } => local::replay(&recording, policy.as_deref(), diff, out),
    }
}
