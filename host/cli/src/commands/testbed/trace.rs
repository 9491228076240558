//! What happened, as a Chrome trace: JSON that Perfetto and chrome://tracing open. Pure.
//!
//! One time line, the test bed's. Each host is a process. A device has a track for the stages of its host's own requests,
//! one for what it executed "for others", as its receipts say, and one "seen from" each other host for theirs, as they were
//! told with the answer, in their own time. A transfer is the time from the end of one stage until the input of the next
//! has arrived on another host: queueing before the link is in it. From then until that stage began it waited, in line and
//! on the device: that has a track, too. Spans that overlap are on lanes of their own.

use super::dispatch::{Dispatch, Stage};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most spans written; a trace of more opens in no viewer.
const SPANS_MAX: usize = 200_000;
/// The process of what happens to all.
const TESTBED: usize = 0;

/// One host's part in a stretch of time.
#[derive(Clone, Debug, Default)]
pub(super) struct HostPart {
    /// Its name, as stages of others call it.
    pub(super) name: String,
    /// Its clock minus the test bed's, nanoseconds.
    pub(super) clock_offset: i64,
    /// What it dispatched, and what it executed for others.
    pub(super) dispatches: Vec<Dispatch>,
}

impl HostPart {
    /// A time of its clock on the test bed's.
    fn local(&self, nanos: u64) -> i64 {
        nanos as i64 - self.clock_offset
    }
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

/// Something that took time, nanoseconds on the test bed's clock.
#[derive(Debug)]
struct Span {
    process: usize,
    track: String,
    category: &'static str,
    name: String,
    from: i64,
    until: i64,
    details: Value,
}

/// A trace in the making.
#[derive(Debug)]
pub(super) struct Trace {
    spans: Vec<Span>,
    moments: Vec<Moment>,
    /// Names of processes, in the order of their numbers.
    processes: Vec<String>,
    full: bool,
}

impl Trace {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { spans: Vec::new(), moments: Vec::new(), processes: vec!["test bed".into()], full: false }
    }

    /// Adds a moment.
    pub(super) fn moment(&mut self, moment: Moment) {
        if self.moments.len() < SPANS_MAX {
            self.moments.push(moment);
        } else {
            self.full = true;
        }
    }

    /// Adds what the hosts did in a stretch.
    pub(super) fn stretch(&mut self, hosts: &[HostPart]) {
        for host in hosts {
            let process = self.process(&host.name);
            for dispatch in &host.dispatches {
                if dispatch.is_own() {
                    self.dispatch(process, host, dispatch);
                } else {
                    self.guest(process, host, dispatch);
                }
            }
        }
    }

    /// The file's content, and whether something was left out since there was too much.
    pub(super) fn finish(mut self) -> (Value, bool) {
        let mut events = Vec::with_capacity(self.spans.len() + self.moments.len());
        let mut threads = Threads::default();
        for moment in &self.moments {
            let thread = threads.number(TESTBED, moment.kind);
            events.push(json!({ "name": moment.text, "cat": moment.kind, "ph": "i", "s": "g",
                "ts": micros(moment.at as i64), "pid": TESTBED, "tid": thread }));
        }
        self.spans.sort_by_key(|s| (s.from, s.until));
        for span in &self.spans {
            let thread = threads.lane(span);
            events.push(json!({ "name": span.name, "cat": span.category, "ph": "X", "ts": micros(span.from),
                "dur": micros(span.until - span.from), "pid": span.process, "tid": thread, "args": span.details }));
        }
        for (number, name) in self.processes.iter().enumerate() {
            let about = |what: &str, args: Value| json!({ "name": what, "ph": "M", "pid": number, "args": args });
            events.push(about("process_name", json!({ "name": name })));
            events.push(about("process_sort_index", json!({ "sort_index": number })));
        }
        for ((process, name), number) in &threads.numbers {
            events.push(json!({ "name": "thread_name", "ph": "M", "pid": process, "tid": number,
                "args": { "name": name } }));
        }
        (json!({ "displayTimeUnit": "ms", "traceEvents": events }), self.full)
    }

    fn dispatch(&mut self, process: usize, host: &HostPart, dispatch: &Dispatch) {
        let local = |nanos| host.local(nanos);
        let details = json!({ "policy": dispatch.policy.name, "why": dispatch.why, "model": dispatch.model,
            "requests": dispatch.requests, "rows": dispatch.rows, "bytes over links": dispatch.bytes,
            "plan": dispatch.plan(), "ended": dispatch.verdict, "trace": dispatch.trace });
        let name = if dispatch.why.is_empty() { &dispatch.model } else { &dispatch.why };
        let whole = (local(dispatch.at), local(dispatch.ended));
        self.span((process, "dispatches"), "dispatch", name, whole, details);
        let mut before: Option<&Stage> = None;
        for stage in &dispatch.stages {
            let (Some(began), Some(measured)) = (stage.began, stage.measured) else { return };
            let span = (local(began), local(began.saturating_add(measured)));
            let layers = layers(dispatch, stage);
            let arrived = span.0.saturating_sub_unsigned(stage.waited.unwrap_or(0));
            let about = json!({ "policy": dispatch.policy.name, "requests": dispatch.requests, "rows": dispatch.rows,
                "predicted ms": millis(stage.predicted), "trace": dispatch.trace });
            match stage.host() {
                None => self.span((process, stage.device()), "stage", &layers, span, about),
                Some(other) => {
                    let other = self.process(other);
                    let seen = format!("{}, seen from {}", stage.device(), host.name);
                    if arrived < span.0 {
                        self.span(
                            (other, &format!("line of {seen}")),
                            "wait",
                            &layers,
                            (arrived, span.0),
                            about.clone(),
                        );
                    }
                    self.span((other, &seen), "seen", &layers, span, about);
                }
            }
            let came_from = before.and_then(Stage::host);
            if came_from != stage.host() {
                let named = |name: Option<&str>| name.unwrap_or(&host.name).to_owned();
                let track = format!("{} to {}", named(came_from), named(stage.host()));
                let codec = stage.via.as_deref().unwrap_or("unknown codec");
                let left = before.and_then(|b| Some(b.began? + b.measured?)).unwrap_or(dispatch.at);
                let about = json!({ "rate": stage.rate, "bytes of all transfers": dispatch.bytes,
                    "rows": dispatch.rows });
                let links = self.process("links");
                self.span((links, &track), "transfer", codec, (local(left), arrived), about);
            }
            before = Some(stage);
        }
    }

    /// What a host executed for others. How long it waited there is only an argument: it shows where it is seen from.
    fn guest(&mut self, process: usize, host: &HostPart, dispatch: &Dispatch) {
        for stage in &dispatch.stages {
            let (Some(began), Some(measured)) = (stage.began, stage.measured) else { return };
            let about = json!({ "for": dispatch.for_hosts.join(", "), "policy": dispatch.policy.name,
                "why": dispatch.why, "stages joined": dispatch.requests, "rows": dispatch.rows,
                "predicted ms": millis(stage.predicted), "waited in line ms": millis(dispatch.wait),
                "trace": dispatch.trace });
            let track = format!("{}, for others", stage.device());
            let span = (host.local(began), host.local(began.saturating_add(measured)));
            self.span((process, &track), "guest", &layers(dispatch, stage), span, about);
        }
    }

    fn span(
        &mut self,
        (process, track): (usize, &str),
        category: &'static str,
        name: &str,
        (from, until): (i64, i64),
        details: Value,
    ) {
        if self.spans.len() >= SPANS_MAX {
            self.full = true;
            return;
        }
        // Clocks of two hosts are never quite equal: nothing may end before it begins.
        let until = until.max(from);
        self.spans.push(Span { process, track: track.into(), category, name: name.into(), from, until, details });
    }

    fn process(&mut self, name: &str) -> usize {
        self.processes.iter().position(|p| p == name).unwrap_or_else(|| {
            self.processes.push(name.to_owned());
            self.processes.len() - 1
        })
    }
}

/// Numbers of tracks, and when each lane of one is free.
#[derive(Default)]
struct Threads {
    numbers: BTreeMap<(usize, String), usize>,
    lanes: BTreeMap<(usize, String), Vec<i64>>,
}

impl Threads {
    fn number(&mut self, process: usize, name: &str) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry((process, name.to_owned())).or_insert(next)
    }

    /// The first lane of the span's track that is free; spans come in the order of their beginnings.
    fn lane(&mut self, span: &Span) -> usize {
        let lanes = self.lanes.entry((span.process, span.track.clone())).or_default();
        let free = lanes.iter().position(|until| *until <= span.from).unwrap_or_else(|| {
            lanes.push(i64::MIN);
            lanes.len() - 1
        });
        lanes[free] = span.until;
        let name = if free == 0 { span.track.clone() } else { format!("{} ({})", span.track, free + 1) };
        self.number(span.process, &name)
    }
}

fn layers(dispatch: &Dispatch, stage: &Stage) -> String {
    format!("{} [{}..{}]", dispatch.model, stage.from_cut, stage.until_cut)
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// The trace format counts microseconds.
fn micros(nanos: i64) -> f64 {
    nanos as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::tests::dispatch;
    use super::*;

    fn events(moments: &[Moment], hosts: &[HostPart]) -> Vec<Value> {
        let mut trace = Trace::new();
        moments.iter().for_each(|m| trace.moment(m.clone()));
        trace.stretch(hosts);
        let (file, full) = trace.finish();
        assert!(!full);
        file["traceEvents"].as_array().unwrap().clone()
    }

    fn two_hosts() -> Vec<Value> {
        let mut split = dispatch(100, 120, &[("cpu", 0, 4, None, 100, 5), ("server/cpu", 4, 9, Some("int8"), 110, 6)]);
        split.stages[1].waited = Some(2_000_000);
        split.trace = Some("00-ab-cd-01".into());
        let helping = dispatch(1_109, 1_117, &[("cpu", 4, 9, Some("int8"), 1_110, 6)]);
        let helping = Dispatch { for_hosts: vec!["edge".into()], trace: split.trace.clone(), ..helping };
        let hosts = [
            HostPart { name: "edge".into(), clock_offset: 50_000_000, dispatches: vec![split] },
            HostPart { name: "server".into(), clock_offset: 1_050_000_000, dispatches: vec![helping] },
        ];
        events(&[Moment { at: 7_000_000, kind: "policy", text: "bps decides".into() }], &hosts)
    }

    /// Beginning and length of the spans of a category, milliseconds.
    fn spans(events: &[Value], category: &str) -> Vec<(f64, f64)> {
        let of = events.iter().filter(|e| e["cat"] == category && e["ph"] == "X");
        of.map(|e| (e["ts"].as_f64().unwrap() / 1e3, e["dur"].as_f64().unwrap() / 1e3)).collect()
    }

    fn tracks(events: &[Value]) -> Vec<&str> {
        events.iter().filter(|e| e["ph"] == "M").filter_map(|e| e["args"]["name"].as_str()).collect()
    }

    #[test]
    fn all_hosts_are_on_one_time_line() {
        let events = two_hosts();
        // The server's own clock is a second ahead of the edge's; it began when the edge was told that it began.
        assert_eq!(spans(&events, "stage"), [(50.0, 5.0)]);
        assert_eq!((spans(&events, "seen"), spans(&events, "guest")), (vec![(60.0, 6.0)], vec![(60.0, 6.0)]));
        for category in ["dispatch", "stage", "seen", "guest"] {
            let one = events.iter().find(|e| e["cat"] == category).unwrap();
            assert_eq!(one["args"]["trace"], "00-ab-cd-01", "{one}");
        }
        assert_eq!(spans(&events, "dispatch").len(), 1, "what the server did for the edge is no dispatch of its own");
        let moment = events.iter().find(|e| e["ph"] == "i").unwrap();
        assert_eq!((&moment["ts"], &moment["name"]), (&json!(7_000.0), &json!("bps decides")));
    }

    #[test]
    fn a_transfer_and_a_wait_lie_between_stages_of_two_hosts() {
        let events = two_hosts();
        assert_eq!((spans(&events, "transfer"), spans(&events, "wait")), (vec![(55.0, 3.0)], vec![(58.0, 2.0)]));
        let names = tracks(&events);
        for name in [
            "test bed",
            "edge",
            "server",
            "links",
            "edge to server",
            "line of cpu, seen from edge",
            "cpu, seen from edge",
            "cpu, for others",
        ] {
            assert!(names.contains(&name), "{names:?} lacks {name}");
        }
    }

    #[test]
    fn remote_only_begins_with_a_transfer() {
        let remote = dispatch(10, 30, &[("server/cpu", 0, 9, Some("jpeg"), 20, 6)]);
        let events = events(&[], &[HostPart { name: "edge".into(), clock_offset: 0, dispatches: vec![remote] }]);
        assert_eq!(spans(&events, "transfer"), [(10.0, 10.0)]);
    }

    #[test]
    fn a_stage_that_did_not_end_is_left_out() {
        let mut broken = dispatch(10, 30, &[("cpu", 0, 4, None, 10, 5), ("server/cpu", 4, 9, Some("raw"), 20, 6)]);
        broken.stages[1].measured = None;
        let events = events(&[], &[HostPart { name: "edge".into(), clock_offset: 0, dispatches: vec![broken] }]);
        assert_eq!((spans(&events, "stage").len(), spans(&events, "transfer").len()), (1, 0));
    }

    #[test]
    fn what_overlaps_has_lanes() {
        let at = |at, ended| dispatch(at, ended, &[]);
        let dispatches = vec![at(0, 10), at(5, 20), at(12, 30)];
        let events = events(&[], &[HostPart { name: "edge".into(), clock_offset: 0, dispatches }]);
        let lanes: Vec<&Value> = events.iter().filter(|e| e["cat"] == "dispatch").map(|e| &e["tid"]).collect();
        assert!(lanes[0] == lanes[2] && lanes[0] != lanes[1], "{lanes:?}");
        assert!(tracks(&events).contains(&"dispatches (2)"));
    }
}
