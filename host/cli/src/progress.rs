//! What a run says while it works: to stderr, as a bar on a terminal and as plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};

/// A bar of `length` steps; hidden when stderr is not a terminal.
pub(crate) fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    // The template is a constant that indicatif can parse; the plain bar is a fine second best.
    if let Ok(style) = ProgressStyle::with_template("{msg:28} [{bar:30}] {pos}/{len} {eta:>4}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar
}

/// One line for people who watch.
pub(crate) fn say(line: &str) {
    // A closed stderr must not end the work.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One line that replaces itself on a terminal; nothing elsewhere, since a log of ticks is noise.
pub(crate) struct Ticker {
    bar: Option<ProgressBar>,
}

impl Ticker {
    /// An empty line.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// What is happening now.
    pub(crate) fn tick(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        }
    }

    /// A line that stays, above the ticking one.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say(line),
        }
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
