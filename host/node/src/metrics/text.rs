//! Metrics that are read from elsewhere at the moment they are asked for: the active policy, and Triton's names for
//! what the models' statistics hold.
//!
//! They are written by hand because their label values change over time, and a recorder would keep the old ones for ever.

use crate::{ModelStats, PolicyStatusView};
use std::fmt::Write;

/// Lines about the active policy and the models.
pub(crate) struct PolicyText<'a> {
    pub(crate) policy: &'a PolicyStatusView,
    pub(crate) models: &'a [ModelStats],
}

/// Triton's counters: name, meaning, value.
type Column = (&'static str, &'static str, fn(&ModelStats) -> u64);

const TRITON: [Column; 6] = [
    ("nv_inference_request_success", "Requests that were answered", |m| m.inference_stats.success.count),
    ("nv_inference_request_failure", "Requests that were not answered", |m| m.inference_stats.fail.count),
    ("nv_inference_count", "Rows that were answered", |m| m.inference_count),
    ("nv_inference_exec_count", "Batches that were executed", |m| m.execution_count),
    ("nv_inference_request_duration_us", "Whole time of answered requests", |m| m.inference_stats.success.ns / 1_000),
    ("nv_inference_queue_duration_us", "Time of answered requests in the queue", |m| {
        m.inference_stats.queue.ns / 1_000
    }),
];

impl PolicyText<'_> {
    /// Appends the lines.
    pub(crate) fn write(&self, out: &mut String) {
        let policy = self.policy;
        let labels = [
            ("name", policy.active.name.as_str()),
            ("version", &policy.active.version),
            ("digest", &policy.active.digest),
            ("generation", &policy.generation.to_string()),
            ("state", &policy.state),
        ];
        head(out, "bps_policy_info", "The active policy", "gauge");
        line(out, "bps_policy_info", &labels, "1");
        head(out, "bps_policy_gauge", "Gauges that the active policy sets, by its own ids", "gauge");
        for (id, value) in &policy.gauges {
            line(out, "bps_policy_gauge", &[("id", &id.to_string())], &value.to_string());
        }
        for (name, text, value) in TRITON {
            head(out, name, text, "counter");
            for model in self.models {
                let labels = [("model", model.name.as_str()), ("version", &model.version)];
                line(out, name, &labels, &value(model).to_string());
            }
        }
    }
}

fn head(out: &mut String, name: &str, text: &str, kind: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {text}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: &str) {
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
    let _ = writeln!(out, "{name}{{{}}} {value}", labels.join(","));
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn labels_are_escaped() {
        let policy = PolicyStatusView {
            active: crate::PolicyName { name: "a\"b\\c\nd".into(), ..Default::default() },
            gauges: BTreeMap::from([(3, 0.5)]),
            ..Default::default()
        };
        let mut out = String::new();
        PolicyText { policy: &policy, models: &[] }.write(&mut out);
        assert!(out.contains(r#"bps_policy_info{name="a\"b\\c\nd","#), "{out}");
        assert!(out.contains("bps_policy_gauge{id=\"3\"} 0.5\n"), "{out}");
    }
}
