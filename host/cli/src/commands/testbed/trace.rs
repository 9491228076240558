//! What happened, as a Chrome trace: JSON that Perfetto and chrome://tracing open. Pure.
//!
//! One time line, the test bed's. Each host is a process with a track per device, made of its own receipts; "seen from"
//! tracks show what an origin was told of stages elsewhere. A transfer is the time between the end of one stage and the
//! beginning of the next on another host: queueing on both sides is in it. Transfers and whole dispatches overlap, so that
//! they are asynchronous spans.

use super::dispatch::{Dispatch, Stage};
use serde_json::{Value, json};

/// Most events written; a trace of more opens in no viewer.
const EVENTS_MAX: usize = 400_000;
/// The track of what happens to all.
const TESTBED: usize = 0;

/// One host's part in a stretch of time.
#[derive(Clone, Debug, Default)]
pub(super) struct HostPart {
    /// Its name, as stages of others call it.
    pub(super) name: String,
    /// Its clock minus the test bed's, nanoseconds.
    pub(super) clock_offset: i64,
    /// What it dispatched.
    pub(super) dispatches: Vec<Dispatch>,
}

/// A moment at which something was done to the system.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    /// When, nanoseconds on the test bed's clock.
    pub(super) at: u64,
    /// `link`, `policy`, `host` or `run`.
    pub(super) kind: &'static str,
    /// What.
    pub(super) text: String,
}

/// A trace in the making.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: Vec<Value>,
    /// Process and thread names, in the order of their numbers.
    processes: Vec<String>,
    threads: Vec<(usize, String)>,
    spans: u64,
    full: bool,
}

impl Trace {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { processes: vec!["test bed".into()], ..Self::default() }
    }

    /// Adds a moment.
    pub(super) fn moment(&mut self, moment: &Moment) {
        let thread = self.thread(TESTBED, moment.kind);
        let event = json!({ "name": moment.text, "cat": moment.kind, "ph": "i", "s": "g", "ts": micros(moment.at as i64),
                            "pid": TESTBED, "tid": thread });
        self.push(event);
    }

    /// Adds what the hosts did in a stretch.
    pub(super) fn stretch(&mut self, hosts: &[HostPart]) {
        for host in hosts {
            let process = self.process(&host.name);
            for dispatch in &host.dispatches {
                self.dispatch(process, host, dispatch);
            }
        }
    }

    /// The file's content, and whether something was left out since there was too much.
    pub(super) fn finish(mut self) -> (Value, bool) {
        for (number, name) in self.processes.iter().enumerate() {
            self.events.push(json!({ "name": "process_name", "ph": "M", "pid": number, "args": { "name": name } }));
            self.events.push(
                json!({ "name": "process_sort_index", "ph": "M", "pid": number, "args": { "sort_index": number } }),
            );
        }
        for (number, (process, name)) in self.threads.iter().enumerate() {
            self.events.push(
                json!({ "name": "thread_name", "ph": "M", "pid": process, "tid": number, "args": { "name": name } }),
            );
        }
        (json!({ "displayTimeUnit": "ms", "traceEvents": self.events }), self.full)
    }

    fn dispatch(&mut self, process: usize, host: &HostPart, dispatch: &Dispatch) {
        let local = |nanos: u64| nanos as i64 - host.clock_offset;
        let details = json!({ "policy": dispatch.policy.name, "why": dispatch.why, "model": dispatch.model,
            "requests": dispatch.requests, "rows": dispatch.rows, "bytes over links": dispatch.bytes,
            "plan": dispatch.plan(), "ended": dispatch.verdict });
        let name = if dispatch.why.is_empty() { &dispatch.model } else { &dispatch.why };
        let whole = (local(dispatch.at), local(dispatch.ended));
        self.overlapping(process, "dispatches", "dispatch", name, whole, &details);
        let mut before: Option<&Stage> = None;
        for stage in &dispatch.stages {
            let (Some(began), Some(measured)) = (stage.began, stage.measured) else {
                before = None;
                continue;
            };
            let span = (local(began), local(began.saturating_add(measured)));
            let layers = format!("{} [{}..{}]", dispatch.model, stage.from_cut, stage.until_cut);
            let what = json!({ "policy": dispatch.policy.name, "requests": dispatch.requests, "rows": dispatch.rows,
                "predicted ms": stage.predicted as f64 / 1e6 });
            match stage.host() {
                None => self.complete(process, stage.device(), &layers, span, &what),
                Some(other) => {
                    let other = self.process(other);
                    let track = format!("{}, seen from {}", stage.device(), host.name);
                    self.overlapping(other, &track, "seen", &layers, span, &what);
                }
            }
            let left = before.map_or(Some((None, dispatch.at)), |b| Some((b.host(), b.began? + b.measured?)));
            if let Some((from, left)) = left
                && from != stage.host()
            {
                let named = |host_name: Option<&str>| host_name.unwrap_or(&host.name).to_owned();
                let track = format!("{} to {}", named(from), named(stage.host()));
                let codec = stage.via.as_deref().unwrap_or("?");
                let links = self.process("links");
                let about =
                    json!({ "codec": codec, "rate": stage.rate, "bytes": dispatch.bytes, "rows": dispatch.rows });
                self.overlapping(links, &track, "transfer", codec, (local(left), span.0), &about);
            }
            before = Some(stage);
        }
    }

    /// A span on a track where one follows the other.
    fn complete(&mut self, process: usize, track: &str, name: &str, (from, until): (i64, i64), details: &Value) {
        let thread = self.thread(process, track);
        let event = json!({ "name": name, "cat": "stage", "ph": "X", "ts": micros(from), "dur": micros((until - from).max(0)),
                            "pid": process, "tid": thread, "args": details });
        self.push(event);
    }

    /// A span among others that overlap it.
    fn overlapping(
        &mut self,
        process: usize,
        track: &str,
        category: &str,
        name: &str,
        (from, until): (i64, i64),
        details: &Value,
    ) {
        let thread = self.thread(process, track);
        self.spans += 1;
        let id = self.spans;
        let edge = |phase: &str, at: i64| {
            json!({ "name": name, "cat": format!("{track}: {category}"), "ph": phase, "ts": micros(at), "id": id,
                    "pid": process, "tid": thread })
        };
        let mut begin = edge("b", from);
        begin["args"] = details.clone();
        self.push(begin);
        self.push(edge("e", until.max(from)));
    }

    fn process(&mut self, name: &str) -> usize {
        self.processes.iter().position(|p| p == name).unwrap_or_else(|| {
            self.processes.push(name.to_owned());
            self.processes.len() - 1
        })
    }

    fn thread(&mut self, process: usize, name: &str) -> usize {
        self.threads.iter().position(|(p, n)| *p == process && n == name).unwrap_or_else(|| {
            self.threads.push((process, name.to_owned()));
            self.threads.len() - 1
        })
    }

    fn push(&mut self, event: Value) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        } else {
            self.full = true;
        }
    }
}

/// The trace format counts microseconds.
fn micros(nanos: i64) -> f64 {
    nanos as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::tests::dispatch;
    use super::*;

    fn made() -> Vec<Value> {
        let split = dispatch(100, 120, &[("cpu", 0, 4, None, 100, 5), ("server/cpu", 4, 9, Some("int8"), 110, 6)]);
        let helping = dispatch(1_110, 1_117, &[("cpu", 4, 9, None, 1_110, 6)]);
        let mut trace = Trace::new();
        trace.moment(&Moment { at: 7_000_000, kind: "policy", text: "bps decides".into() });
        trace.stretch(&[
            HostPart { name: "edge".into(), clock_offset: 50_000_000, dispatches: vec![split] },
            HostPart { name: "server".into(), clock_offset: 1_050_000_000, dispatches: vec![helping] },
        ]);
        let (file, full) = trace.finish();
        assert!(!full);
        file["traceEvents"].as_array().unwrap().clone()
    }

    fn named<'a>(events: &'a [Value], phase: &str, category: &str) -> Vec<&'a Value> {
        let fits = |e: &&Value| e["ph"] == phase && e["cat"].as_str().is_some_and(|c| c.ends_with(category));
        events.iter().filter(fits).collect()
    }

    #[test]
    fn all_hosts_are_on_one_time_line() {
        let events = made();
        let stages = named(&events, "X", "stage");
        let seen: Vec<_> = stages.iter().map(|e| (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap())).collect();
        // The server's own clock is a second ahead of the edge's; both began what they began.
        assert_eq!(seen, [(50_000.0, 5_000.0), (60_000.0, 6_000.0)]);
        assert_ne!(stages[0]["pid"], stages[1]["pid"]);
        assert_eq!(named(&events, "b", "seen")[0]["ts"], 60_000.0);
        assert_eq!(named(&events, "i", "policy")[0]["ts"], 7_000.0);
    }

    #[test]
    fn a_transfer_lies_between_stages_of_two_hosts() {
        let events = made();
        let (begin, end) = (named(&events, "b", "transfer"), named(&events, "e", "transfer"));
        assert_eq!((begin.len(), &begin[0]["name"]), (1, &Value::from("int8")));
        assert_eq!((&begin[0]["ts"], &end[0]["ts"]), (&Value::from(55_000.0), &Value::from(60_000.0)));
        assert_eq!(begin[0]["id"], end[0]["id"]);
        let names: Vec<&str> =
            events.iter().filter(|e| e["ph"] == "M").filter_map(|e| e["args"]["name"].as_str()).collect();
        for name in ["test bed", "edge", "server", "links", "edge to server", "cpu, seen from edge"] {
            assert!(names.contains(&name), "{names:?} lacks {name}");
        }
    }

    #[test]
    fn remote_only_begins_with_a_transfer() {
        let remote = dispatch(10, 30, &[("server/cpu", 0, 9, Some("jpeg"), 20, 6)]);
        let mut trace = Trace::new();
        trace.stretch(&[HostPart { name: "edge".into(), clock_offset: 0, dispatches: vec![remote] }]);
        let (file, _) = trace.finish();
        let events = file["traceEvents"].as_array().unwrap();
        assert_eq!(named(events, "b", "transfer")[0]["ts"], 10_000.0);
    }

    #[test]
    fn a_stage_that_did_not_end_is_left_out() {
        let mut broken = dispatch(10, 30, &[("cpu", 0, 4, None, 10, 5), ("server/cpu", 4, 9, Some("raw"), 20, 6)]);
        broken.stages[1].measured = None;
        let mut trace = Trace::new();
        trace.stretch(&[HostPart { name: "edge".into(), clock_offset: 0, dispatches: vec![broken] }]);
        let (file, _) = trace.finish();
        let events = file["traceEvents"].as_array().unwrap();
        assert_eq!((named(events, "X", "stage").len(), named(events, "b", "transfer").len()), (1, 0));
    }
}
