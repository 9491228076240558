//! How a run of the program ends: exit codes, and errors as people read them.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// The text every help page ends with.
pub(crate) const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 it failed; 2 the command line or a configuration file is wrong.";

/// The command line or a configuration file is wrong, not the world: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whoever read our stdout went away (`bps receipts | head`): not an error worth a word.
#[derive(Debug)]
pub(crate) struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout was closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// An error that ends in exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Prints what failed, with its causes, and picks the code.
pub(crate) fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let number = number(&error);
    if number != 0 {
        // A closed stderr leaves nothing to say; the exit code still tells.
        let _ = std::io::stderr().write_all(describe(&error).as_bytes());
    }
    ExitCode::from(number)
}

fn number(error: &anyhow::Error) -> u8 {
    match error {
        e if e.downcast_ref::<StdoutClosed>().is_some() => 0,
        e if e.downcast_ref::<Usage>().is_some() => 2,
        _ => 1,
    }
}

/// `error: what`, then one line per cause that adds anything.
fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            text.push_str(&format!("  because: {cause}\n"));
        }
        said = cause;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn codes_follow_the_kind_of_error() {
        assert_eq!(number(&usage("no such flag")), 2);
        assert_eq!(number(&usage("inner").context("outer")), 2);
        assert_eq!(number(&anyhow::anyhow!("disk on fire")), 1);
        assert_eq!(number(&StdoutClosed.into()), 0);
    }

    #[test]
    fn causes_are_listed_once() {
        let inner: anyhow::Result<()> = Err(anyhow::anyhow!("permission denied"));
        let error = inner.context("cannot read x: permission denied").context("start failed").unwrap_err();
        let text = describe(&error);
        assert_eq!(text, "error: start failed\n  because: cannot read x: permission denied\n");
    }
}
