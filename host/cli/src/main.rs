//! The binary `bps`: everything a person does with the system goes through it.
//!
//! Stands on top of the workspace and is the only place that knows every crate, prints, or uses `anyhow`. Each command is
//! one file under `commands/`; what they share is here, one noun per file.
//!
//! **Invariants.** Data goes to stdout through [`output`], progress and logs to stderr, so that a pipe sees data only.
//! Exit code 0: done; 1: it failed; 2: the command line or a configuration file is wrong. Files and answers from outside are
//! bounded and never make it panic.

#![forbid(unsafe_code)]

mod admin;
mod arrivals;
mod cli;
mod client;
mod commands;
mod config;
mod exit;
mod infer_wire;
mod latency;
mod link;
mod local;
mod logging;
mod model_file;
mod npy;
mod output;
mod progress;
mod state;
mod table;
mod traffic;

use std::process::ExitCode;

fn main() -> ExitCode {
    exit::code(cli::run())
}
