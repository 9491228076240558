//! What is counted, by the names in which Prometheus gets it.
//!
//! The recorder belongs to one host, not to the process, so that many hosts can run in one test. Handles are made once
//! and kept: counting on the hot path is an atomic addition.

mod text;

use crate::PeerView;
use bps_sched::{FaultClass, Ledger};
use bps_types::policy::WorldInfo;
use bps_types::{ModelId, Nanos};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

pub(crate) use text::PolicyText;

/// Upper bounds of the histograms of seconds: half-decades from 100 µs to 30 s.
const SECONDS: [f64; 12] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
/// Of decide calls and swap pauses: 1 µs to 20 ms.
const SHORT_SECONDS: [f64; 12] = [1e-6, 3e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 1e-2, 2e-2];
/// Of batch sizes.
const ROWS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Name and meaning of each counter, gauge and histogram.
const COUNTERS: [(&str, &str); 8] = [
    ("bps_requests_total", "Requests that ended, by model and outcome"),
    ("bps_swaps_total", "Swaps, rollbacks and rebuilds of the scheduling policy"),
    ("bps_fallback_decisions_total", "Decisions made by the built-in fallback"),
    ("bps_policy_faults_total", "Faults of scheduling policies, by class"),
    ("bps_invalid_rows_total", "Rows of decisions that the host refused"),
    ("bps_retries_total", "Executions that were tried again, counted by request"),
    ("bps_guest_executions_total", "Executions of stages of other hosts' plans, several joined in one or alone"),
    ("bps_guest_rows_total", "Rows executed for other hosts"),
];
const GAUGES: [(&str, &str); 11] = [
    ("bps_queue_waiting", "Requests that wait, by model"),
    ("bps_queue_waiting_rows", "Rows that wait, by model"),
    ("bps_device_busy_seconds_total", "Time a device has executed"),
    ("bps_device_up", "Whether a device takes work"),
    ("bps_requests_held", "Requests held, waiting and running"),
    ("bps_outputs_held", "Executions whose output is kept or awaited"),
    ("bps_peer_up", "Whether a session with a paired host stands"),
    ("bps_peer_goodput_bytes_per_second", "Goodput towards a paired host"),
    ("bps_peer_rtt_seconds", "Round trip to a paired host"),
    ("bps_peer_sent_bytes_total", "Bytes of messages sent to a paired host"),
    ("bps_peer_received_bytes_total", "Bytes of messages that came from a paired host"),
];
const HISTOGRAMS: [(&str, &str, &[f64]); 5] = [
    ("bps_batch_rows", "Rows executed together", &ROWS),
    ("bps_request_seconds", "From a request's arrival to its answer", &SECONDS),
    ("bps_wait_seconds", "From a request's arrival to its first execution", &SECONDS),
    ("bps_decide_seconds", "Processor time of a policy's decide call", &SHORT_SECONDS),
    ("bps_swap_pause_seconds", "How long dispatching stood still for a swap", &SHORT_SECONDS),
];

static METADATA: Metadata<'static> = Metadata::new("bps", Level::INFO, None);

/// One host's metrics.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    decide: Histogram,
    swap_pause: Histogram,
    swaps: Counter,
    fallback_decisions: Counter,
    invalid_rows: Counter,
    retries: Counter,
    guest_executions: Counter,
    guest_rows: Counter,
    requests_held: Gauge,
    outputs_held: Gauge,
    faults: BTreeMap<FaultClass, Counter>,
    device_busy: Vec<Gauge>,
    device_up: Vec<Gauge>,
    waiting: Mutex<HashMap<ModelId, (Gauge, Gauge)>>,
}

/// The handles of one model.
pub(crate) struct ModelMeters {
    outcomes: BTreeMap<&'static str, Counter>,
    request_seconds: Histogram,
    wait_seconds: Histogram,
    batch_rows: Histogram,
}

/// Every value of the label `outcome`.
const OUTCOMES: [&str; 10] =
    ["ok", "cancelled", "not-found", "invalid", "too-large", "refused", "expired", "shed", "failed", "unsupported"];

impl Metrics {
    pub(crate) fn new(device_names: &[String]) -> Self {
        let recorder = recorder();
        let counter = |name| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let gauge = |name| recorder.register_gauge(&Key::from_static_name(name), &METADATA);
        let histogram = |name| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        let of_device = |name: &'static str| {
            let gauge = |device: &String| recorder.register_gauge(&labelled(name, [("device", device)]), &METADATA);
            device_names.iter().map(gauge).collect::<Vec<_>>()
        };
        let of_class = |class: FaultClass| {
            (
                class,
                recorder.register_counter(&labelled("bps_policy_faults_total", [("class", class.name())]), &METADATA),
            )
        };
        let device_up = of_device("bps_device_up");
        device_up.iter().for_each(|gauge| gauge.set(1.0));
        Self {
            decide: histogram("bps_decide_seconds"),
            swap_pause: histogram("bps_swap_pause_seconds"),
            swaps: counter("bps_swaps_total"),
            fallback_decisions: counter("bps_fallback_decisions_total"),
            invalid_rows: counter("bps_invalid_rows_total"),
            retries: counter("bps_retries_total"),
            guest_executions: counter("bps_guest_executions_total"),
            guest_rows: counter("bps_guest_rows_total"),
            requests_held: gauge("bps_requests_held"),
            outputs_held: gauge("bps_outputs_held"),
            faults: FaultClass::ALL.into_iter().map(of_class).collect(),
            device_busy: of_device("bps_device_busy_seconds_total"),
            device_up,
            waiting: Mutex::default(),
            handle: recorder.handle(),
            recorder,
        }
    }

    /// The handles of a model; the same name gives the same counters.
    pub(crate) fn model(&self, name: &str) -> ModelMeters {
        let histogram = |metric| self.recorder.register_histogram(&labelled(metric, [("model", name)]), &METADATA);
        let outcome = |outcome: &'static str| {
            let key = labelled("bps_requests_total", [("model", name), ("outcome", outcome)]);
            (outcome, self.recorder.register_counter(&key, &METADATA))
        };
        ModelMeters {
            outcomes: OUTCOMES.into_iter().map(outcome).collect(),
            request_seconds: histogram("bps_request_seconds"),
            wait_seconds: histogram("bps_wait_seconds"),
            batch_rows: histogram("bps_batch_rows"),
        }
    }

    /// A request for a model that is not here. Its name is the client's, so it is no label.
    pub(crate) fn not_found(&self) {
        let key = labelled("bps_requests_total", [("model", ""), ("outcome", "not-found")]);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    pub(crate) fn device_busy(&self, device: usize, elapsed: Nanos) {
        if let Some(gauge) = self.device_busy.get(device) {
            gauge.increment(elapsed.as_secs_f64());
        }
    }

    pub(crate) fn device_up(&self, device: usize, up: bool) {
        if let Some(gauge) = self.device_up.get(device) {
            gauge.set(f64::from(u8::from(up)));
        }
    }

    pub(crate) fn decided(&self, times: impl Iterator<Item = Nanos>) {
        times.for_each(|time| self.decide.record(time.as_secs_f64()));
    }

    /// Swaps, rollbacks and rebuilds since the run began.
    pub(crate) fn swaps(&self, count: u64) {
        self.swaps.absolute(count);
    }

    pub(crate) fn paused(&self, pause: Nanos) {
        self.swap_pause.record(pause.as_secs_f64());
    }

    /// What has changed between two states of the ledger.
    pub(crate) fn account(&self, before: &Ledger, after: &Ledger) {
        self.fallback_decisions.increment(after.fallback_decisions - before.fallback_decisions);
        self.invalid_rows.increment(after.invalid_rows - before.invalid_rows);
        self.retries.increment(after.retried - before.retried);
        self.guest_executions.increment(after.guests.executions - before.guests.executions);
        self.guest_rows.increment(after.guests.rows - before.guests.rows);
    }

    /// Faults since the run began.
    pub(crate) fn faults(&self, counts: &[(FaultClass, u64)]) {
        for (class, count) in counts {
            if let Some(counter) = self.faults.get(class) {
                counter.absolute(*count);
            }
        }
    }

    /// Requests and rows that wait now. A model that is not named has none.
    pub(crate) fn waiting(&self, now: &[(ModelId, u32, u64)], world: &WorldInfo) {
        let mut known = self.waiting.lock();
        for (id, (requests, rows)) in known.iter() {
            if !now.iter().any(|(model, ..)| model == id) {
                requests.set(0.0);
                rows.set(0.0);
            }
        }
        known.retain(|id, _| world.models.iter().any(|m| m.id == id.0));
        for (id, requests, rows) in now {
            let Some(model) = world.models.iter().find(|m| m.id == id.0) else { continue };
            let gauge = |name| self.recorder.register_gauge(&labelled(name, [("model", &model.name)]), &METADATA);
            let gauges =
                known.entry(*id).or_insert_with(|| (gauge("bps_queue_waiting"), gauge("bps_queue_waiting_rows")));
            gauges.0.set(f64::from(*requests));
            gauges.1.set(*rows as f64);
        }
    }

    /// How the links to other hosts stand. The fingerprint tells apart hosts that have had the same name.
    pub(crate) fn peers(&self, peers: &[PeerView]) {
        for peer in peers {
            let fingerprint = peer.fingerprint.get(..16).unwrap_or_default();
            let labels = [("peer", peer.name.as_str()), ("fingerprint", fingerprint)];
            let set = |name, value: f64| self.recorder.register_gauge(&labelled(name, labels), &METADATA).set(value);
            set("bps_peer_up", f64::from(u8::from(peer.up)));
            set("bps_peer_goodput_bytes_per_second", f64::from(peer.bytes_per_second.unwrap_or(0.0)));
            set("bps_peer_rtt_seconds", Nanos(peer.rtt_ns.unwrap_or(0)).as_secs_f64());
            set("bps_peer_sent_bytes_total", peer.sent_bytes as f64);
            set("bps_peer_received_bytes_total", peer.received_bytes as f64);
        }
    }

    pub(crate) fn held(&self, requests: usize, outputs: usize) {
        self.requests_held.set(requests as f64);
        self.outputs_held.set(outputs as f64);
    }

    /// Moves samples into their buckets; without it they pile up. Called about once a second.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Everything that is counted, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }
}

impl ModelMeters {
    /// A request ended this way.
    pub(crate) fn ended(&self, outcome: &str) {
        if let Some(counter) = self.outcomes.get(outcome) {
            counter.increment(1);
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, wait: Nanos, total: Nanos) {
        self.ended("ok");
        self.request_seconds.record(total.as_secs_f64());
        self.wait_seconds.record(wait.as_secs_f64());
    }

    /// A batch was executed.
    pub(crate) fn executed(&self, rows: u32) {
        self.batch_rows.record(f64::from(rows));
    }
}

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (name, _, buckets) in HISTOGRAMS {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)
            .expect("the bucket lists above are not empty");
    }
    let recorder = builder.build_recorder();
    for (name, text) in COUNTERS {
        recorder.describe_counter(name.into(), None, text.into());
    }
    for (name, text) in GAUGES {
        recorder.describe_gauge(name.into(), None, text.into());
    }
    for (name, text, _) in HISTOGRAMS {
        recorder.describe_histogram(name.into(), None, text.into());
    }
    recorder
}

fn labelled<const N: usize>(name: &'static str, labels: [(&'static str, &str); N]) -> Key {
    let labels = labels.map(|(key, value)| Label::new(key, SharedString::from(value.to_owned())));
    Key::from_parts(name, labels.to_vec())
}
