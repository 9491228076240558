//! What can be set, and its bounds.

use bps_policy_sdk::ConfigError;
use serde::Deserialize;

pub(crate) const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "mode": {"enum": ["adaptive", "aimd"], "default": "adaptive",
      "description": "adaptive: from cost tables; aimd: the batch size grows by one while batches keep the SLO and shrinks by a tenth when one does not"},
    "batch_max": {"type": "integer", "minimum": 1, "maximum": 32, "default": 32, "description": "Most rows together; the model's own limit holds too"},
    "slack_share": {"type": "number", "minimum": 0.1, "maximum": 1, "default": 0.9, "description": "Part of a request's remaining time that a plan may use; the rest covers prediction errors"},
    "lead_us": {"type": "integer", "minimum": 0, "maximum": 100000, "default": 300, "description": "A busy device gets its next batch this long before it is predicted to be free"},
    "wait_share": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.1, "description": "Longest wait in front of an idle device, as part of a one-row execution; only at arrival rates where more requests come within it"},
    "latency_ms": {"type": "number", "exclusiveMinimum": 0, "default": 100, "description": "aimd: the batch latency aimed at where the model has no SLO"}
  },
  "additionalProperties": false
}"#;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Adaptive,
    Aimd,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) mode: Mode,
    pub(crate) batch_max: u32,
    pub(crate) slack_share: f64,
    pub(crate) lead_us: u64,
    pub(crate) wait_share: f64,
    pub(crate) latency_ms: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: Mode::Adaptive, batch_max: 32, slack_share: 0.9, lead_us: 300, wait_share: 0.1, latency_ms: 100.0 }
    }
}

impl Config {
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = bps_policy_sdk::parse_config(text)?;
        let checks = [
            ("batch_max", (1..=32).contains(&config.batch_max), "1 to 32"),
            ("slack_share", (0.1..=1.0).contains(&config.slack_share), "0.1 to 1"),
            ("lead_us", config.lead_us <= 100_000, "0 to 100000"),
            ("wait_share", (0.0..=1.0).contains(&config.wait_share), "0 to 1"),
            ("latency_ms", config.latency_ms > 0.0 && config.latency_ms <= 1e6, "above 0, to 1000000"),
        ];
        match checks.iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => Err(ConfigError::Invalid(format!("{field}: must be within {range}"))),
            None => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_and_what_becomes_of_them() {
        // (text, the word that an error must hold; empty: accepted)
        let cases = [
            ("", ""),
            ("{}", ""),
            (r#"{"mode":"aimd","latency_ms":20}"#, ""),
            (r#"{"mode":"fifo"}"#, "fifo"),
            (r#"{"batch_max":33}"#, "batch_max"),
            (r#"{"slack_share":0}"#, "slack_share"),
            (r#"{"wait":1}"#, "wait"),
            ("[", "line 1"),
        ];
        for (text, word) in cases {
            match Config::parse(text) {
                Ok(_) => assert_eq!(word, "", "{text} was accepted"),
                Err(ConfigError::Invalid(reason) | ConfigError::Unsupported(reason)) => {
                    assert!(!word.is_empty() && reason.contains(word), "{text}: {reason}");
                }
            }
        }
    }
}
