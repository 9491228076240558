//! What changes a link while a run goes on.
//!
//! ```toml
//! [[change]]
//! at = "5s"
//! rate = "10Mbit"
//!
//! [[change]]
//! at = "8s"
//! down = "2s"          # an outage: what is under way is lost
//!
//! [[change]]
//! at = "12s"
//! roam = "300ms"       # this long without a link, then the weaker host has another address
//! rtt = "60ms"
//!
//! [[change]]
//! at = "15s"
//! loss = "1%"          # or bursts = { enter = 0.01, leave = 0.2, lost = 0.8 }
//!
//! [[change]]
//! at = "20s"
//! stall = "2s"         # or swallow, or cut: see `Fault`; in a proxy only
//!
//! [[change]]
//! at = "25s"
//! corrupt = true       # a bit of the next byte each way is flipped; in a proxy only
//! ```
//! The same as JSON: `{"change": [{"at": "5s", "rate": "10Mbit"}]}`.

use crate::conditions::{Conditions, Loss};
use crate::proxy::Fault;
use crate::units::{self, UnitError};
use bps_types::Nanos;
use serde::Deserialize;

/// Changes of one script; a trace sampled every 100 ms for three minutes fits.
const CHANGES_MAX: usize = 2_000;

/// A script that means nothing.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is not such a TOML document.
    #[error("not a link script: {0}")]
    Toml(#[from] toml::de::Error),
    /// It is not such a JSON document.
    #[error("not a link script: {0}")]
    Json(#[from] serde_json::Error),
    /// A quantity is none.
    #[error("change {number}, {field}: {error}")]
    Unit {
        /// Counted from 1.
        number: usize,
        /// Which field.
        field: &'static str,
        /// Why.
        error: UnitError,
    },
    /// A change says something that cannot be.
    #[error("change {number}: {wrong}")]
    Wrong {
        /// Counted from 1.
        number: usize,
        /// What.
        wrong: &'static str,
    },
    /// Too long.
    #[error("a script has at most {CHANGES_MAX} changes")]
    TooLong,
}

/// What changes when, from the beginning of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    changes: Vec<Change>,
}

/// One change. What is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// When.
    pub at: Nanos,
    /// Bits per second, both ways; inner none: unlimited.
    pub rate: Option<Option<f64>>,
    /// Round trip.
    pub rtt: Option<Nanos>,
    /// What is lost, both ways.
    pub loss: Option<Loss>,
    /// Bytes that may wait.
    pub queue_bytes: Option<u64>,
    /// Without a link for this long.
    pub down: Option<Nanos>,
    /// The outage ends with another address.
    pub roams: bool,
    /// What is wrong with the link beyond that, and for how long.
    pub fault: Option<(Fault, Nanos)>,
    /// A bit of the next byte each way is flipped.
    pub corrupt: bool,
}

/// A moment at which the link changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When.
    pub at: Nanos,
    /// How it is from then on.
    pub conditions: Conditions,
    /// The weaker host has another address from then on.
    pub readdress: bool,
    /// What is wrong with it beyond its conditions from then on: of what overlaps, what began last.
    pub fault: Fault,
    /// A bit of the next byte each way is flipped.
    pub corrupt: bool,
    /// For people.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    change: Vec<FileChange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileChange {
    at: String,
    rate: Option<String>,
    rtt: Option<String>,
    loss: Option<String>,
    bursts: Option<FileBursts>,
    queue_bytes: Option<u64>,
    down: Option<String>,
    roam: Option<String>,
    stall: Option<String>,
    swallow: Option<String>,
    cut: Option<String>,
    #[serde(default)]
    corrupt: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBursts {
    enter: f64,
    leave: f64,
    lost: f64,
}

impl Script {
    /// Reads TOML, or JSON where the text begins with a brace.
    ///
    /// # Errors
    /// Not such a document; a quantity that is none; too long.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let file: File =
            if text.trim_start().starts_with('{') { serde_json::from_str(text)? } else { toml::from_str(text)? };
        if file.change.len() > CHANGES_MAX {
            return Err(ScriptError::TooLong);
        }
        let read = |(index, change): (usize, FileChange)| change.read(index + 1);
        let mut changes = file.change.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        changes.sort_by_key(|c| c.at);
        Ok(Self { changes })
    }

    /// These changes, in any order.
    pub fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(|c| c.at);
        Self { changes }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it asks for what only a [`Proxy`](crate::Proxy) can do: faults and flipped bits.
    pub fn needs_proxy(&self) -> bool {
        self.changes.iter().any(|c| c.fault.is_some() || c.corrupt)
    }

    /// The moments at which the link changes, ascending, each with all of how it is from then on.
    pub fn steps(&self, start: Conditions) -> Vec<Step> {
        let end = |c: &Change| c.down.map(|span| c.at + span);
        let mended = |c: &Change| c.fault.map(|(_, span)| c.at + span);
        let moments = self.changes.iter().flat_map(|c| [Some(c.at), end(c), mended(c)]);
        let mut moments: Vec<Nanos> = moments.flatten().collect();
        moments.sort_unstable();
        moments.dedup();
        let mut conditions = start;
        let mut began = self.changes.iter().peekable();
        let (mut fault, mut faults) = (Fault::None, Vec::new());
        let mut step = |at: Nanos| {
            let mut words = Vec::new();
            let mut corrupt = false;
            while let Some(change) = began.next_if(|c| c.at <= at) {
                change.apply(&mut conditions, &mut words);
                corrupt |= change.corrupt;
                faults.extend(change.fault.map(|(fault, span)| (at + span, fault)));
            }
            faults.retain(|(until, _)| at < *until);
            let was_up = conditions.up;
            conditions.up = start.up && !self.changes.iter().any(|c| c.at <= at && end(c).is_some_and(|e| at < e));
            let readdress = self.changes.iter().any(|c| c.roams && end(c) == Some(at));
            match (was_up, conditions.up) {
                (true, false) => words.push("down".into()),
                (false, true) if readdress => words.push("up at another address".into()),
                (false, true) => words.push("up".into()),
                _ => {}
            }
            let before = std::mem::replace(&mut fault, faults.last().map_or(Fault::None, |(_, fault)| *fault));
            if fault != before {
                words.push(fault_text(fault).into());
            }
            if corrupt {
                words.push("a bit flipped".into());
            }
            Step { at, conditions, readdress, fault, corrupt, text: words.join(", ") }
        };
        moments.into_iter().map(&mut step).collect()
    }
}

fn fault_text(fault: Fault) -> &'static str {
    match fault {
        Fault::None => "whole",
        Fault::Stall => "stalled",
        Fault::Swallow => "swallows all",
        Fault::Cut => "cut",
    }
}

impl Change {
    fn apply(&self, conditions: &mut Conditions, words: &mut Vec<String>) {
        if let Some(rate) = self.rate {
            conditions.rate = rate;
            words.push(units::rate_text(rate));
        }
        if let Some(rtt) = self.rtt {
            conditions.delay = Nanos(rtt.0 / 2);
            words.push(format!("rtt {rtt}"));
        }
        if let Some(loss) = self.loss {
            conditions.loss = loss;
            words.push(format!("loss {:.2} %", loss.mean() * 100.0));
        }
        if let Some(bytes) = self.queue_bytes {
            conditions.queue_bytes = bytes;
        }
    }
}

impl FileChange {
    fn read(self, number: usize) -> Result<Change, ScriptError> {
        let unit = |field| move |error| ScriptError::Unit { number, field, error };
        let wrong = |wrong| ScriptError::Wrong { number, wrong };
        let span = |text: Option<&String>, field| text.map(|t| units::span(t).map_err(unit(field))).transpose();
        let (down, roam) = (span(self.down.as_ref(), "down")?, span(self.roam.as_ref(), "roam")?);
        if down.is_some() && roam.is_some() {
            return Err(wrong("down and roam exclude each other: roaming is an outage that ends at another address"));
        }
        let faults = [
            (Fault::Stall, span(self.stall.as_ref(), "stall")?),
            (Fault::Swallow, span(self.swallow.as_ref(), "swallow")?),
            (Fault::Cut, span(self.cut.as_ref(), "cut")?),
        ];
        let mut faults = faults.into_iter().filter_map(|(fault, span)| Some((fault, span?)));
        let fault = faults.next();
        if faults.next().is_some() {
            return Err(wrong("stall, swallow and cut exclude each other"));
        }
        let loss = match (&self.loss, self.bursts) {
            (Some(_), Some(_)) => return Err(wrong("loss and bursts exclude each other")),
            (Some(text), None) => Some(Loss::Random(units::share(text).map_err(unit("loss"))?)),
            (None, Some(b)) if [b.enter, b.leave, b.lost].iter().all(|p| (0.0..=1.0).contains(p)) => {
                Some(Loss::Bursts { enter: b.enter, leave: b.leave, lost: b.lost })
            }
            (None, Some(_)) => return Err(wrong("bursts: enter, leave and lost are probabilities from 0 to 1")),
            (None, None) => None,
        };
        Ok(Change {
            at: units::span(&self.at).map_err(unit("at"))?,
            rate: self.rate.as_ref().map(|t| units::rate(t).map_err(unit("rate"))).transpose()?,
            rtt: span(self.rtt.as_ref(), "rtt")?,
            loss,
            queue_bytes: self.queue_bytes,
            down: down.or(roam),
            roams: roam.is_some(),
            fault,
            corrupt: self.corrupt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"
        [[change]]
        at = "8s"
        down = "2s"
        [[change]]
        at = "5s"
        rate = "10Mbit"
        loss = "1%"
        [[change]]
        at = "12s"
        roam = "300ms"
        rtt = "60ms"
    "#;

    #[test]
    fn a_script_becomes_steps() {
        let steps = Script::parse(SCRIPT).unwrap().steps(Conditions::link(Some(1e8), Nanos::from_millis(1)));
        let seen: Vec<_> = steps.iter().map(|s| (s.at.0 / 1_000_000, s.conditions.up, s.readdress)).collect();
        assert_eq!(
            seen,
            [
                (5_000, true, false),
                (8_000, false, false),
                (10_000, true, false),
                (12_000, false, false),
                (12_300, true, true)
            ]
        );
        let words: Vec<&str> = steps.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(words, ["10 Mbit/s, loss 1.00 %", "down", "up", "rtt 60.00 ms, down", "up at another address"]);
        let last = steps[4].conditions;
        assert_eq!((last.rate, last.delay, last.loss), (Some(1e7), Nanos::from_millis(30), Loss::Random(0.01)));
    }

    #[test]
    fn outages_that_overlap_are_one() {
        let down = |at, span| Change { at: Nanos(at), down: Some(Nanos(span)), ..Change::default() };
        let steps = Script::new(vec![down(10, 10), down(15, 20)]).steps(Conditions::default());
        let seen: Vec<_> = steps.iter().map(|s| (s.at.0, s.conditions.up)).collect();
        assert_eq!(seen, [(10, false), (15, false), (20, false), (35, true)]);
    }

    #[test]
    fn faults_begin_and_end_and_the_latest_counts() {
        let text = r#"
            [[change]]
            at = "1s"
            stall = "4s"
            [[change]]
            at = "2s"
            cut = "1s"
            corrupt = true
            [[change]]
            at = "9s"
            swallow = "1s"
            down = "2s"
        "#;
        let script = Script::parse(text).unwrap();
        let seen = |s: &Step| (s.at.0 / 1_000_000_000, s.conditions.up, s.fault, s.corrupt);
        let steps = script.steps(Conditions::default());
        assert_eq!(
            steps.iter().map(seen).collect::<Vec<_>>(),
            [
                (1, true, Fault::Stall, false),
                (2, true, Fault::Cut, true),
                (3, true, Fault::Stall, false),
                (5, true, Fault::None, false),
                (9, false, Fault::Swallow, false),
                (10, false, Fault::None, false),
                (11, true, Fault::None, false),
            ]
        );
        let words: Vec<&str> = steps.iter().map(|s| s.text.as_str()).collect();
        let expected = ["stalled", "cut, a bit flipped", "stalled", "whole", "down, swallows all", "whole", "up"];
        assert_eq!(words, expected);
        assert!(script.needs_proxy() && !Script::parse(SCRIPT).unwrap().needs_proxy());
    }

    #[test]
    fn json_says_the_same() {
        let json = r#"{"change": [{"at": "8s", "down": "2s"}, {"at": "5s", "rate": "10Mbit", "loss": "1%"},
                                  {"at": "12s", "roam": "300ms", "rtt": "60ms"}]}"#;
        assert_eq!(Script::parse(json).unwrap(), Script::parse(SCRIPT).unwrap());
        assert!(Script::parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("[[change]]\nat = \"soon\"", "change 1, at"),
            ("[[change]]\nat = \"1s\"\nrate = \"7\"", "change 1, rate"),
            ("[[change]]\nat = \"1s\"\ndown = \"1s\"\nroam = \"1s\"", "exclude"),
            ("[[change]]\nat = \"1s\"\nloss = \"1%\"\nbursts = { enter = 0.1, leave = 0.1, lost = 1.0 }", "exclude"),
            ("[[change]]\nat = \"1s\"\nbursts = { enter = 2.0, leave = 0.1, lost = 1.0 }", "probabilities"),
            ("[[change]]\nat = \"1s\"\nstall = \"1s\"\ncut = \"1s\"", "stall, swallow and cut exclude"),
            ("[[change]]\nat = \"1s\"\nswallow = \"all\"", "change 1, swallow"),
            ("[[change]]\nat = \"1s\"\nspeed = 1", "speed"),
            ("{\"change\": 7}", "not a link script"),
            ("rate", "not a link script"),
        ] {
            let error = Script::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
