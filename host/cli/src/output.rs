//! The one place that writes to stdout: data, as a table for people or as JSON for programs.

use crate::exit::StdoutClosed;
use anyhow::{Context, Result};
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// Writes data in the chosen format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// How.
    pub(crate) format: Format,
}

impl Output {
    /// Writes `data` as JSON, or the text that `human` makes of it.
    pub(crate) fn emit<T: Serialize + ?Sized>(self, data: &T, human: impl FnOnce(&T) -> String) -> Result<()> {
        let mut text = match self.format {
            Format::Table => human(data),
            Format::Json => serde_json::to_string_pretty(data).context("the result cannot be written as JSON")?,
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        write(text.as_bytes())
    }
}

/// Bytes to stdout, as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(e) => Err(e).context("cannot write to stdout"),
    }
}
