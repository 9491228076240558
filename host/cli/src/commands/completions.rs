//! `bps completions SHELL`: what a shell needs to complete this program's command line.

use crate::output;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

/// Print a completion script for a shell.
///
/// For example: bps completions bash > ~/.local/share/bash-completion/completions/bps
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the script.
pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::Cli::command(), "bps", &mut script);
    output::write(&script)
}
