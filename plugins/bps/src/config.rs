//! What can be set, and its bounds.

use bps_policy_sdk::ConfigError;
use serde::Deserialize;

pub(crate) const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "batch_max": {"type": "integer", "minimum": 1, "maximum": 32, "default": 32, "description": "Most rows together; the model's own limit holds too"},
    "slack_share": {"type": "number", "minimum": 0.1, "maximum": 1, "default": 0.9, "description": "Part of a request's remaining time that a plan may use; the rest covers prediction errors"},
    "lead_us": {"type": "integer", "minimum": 0, "maximum": 100000, "default": 300, "description": "A busy device gets its next batch this long before it is predicted to be free"},
    "wait_share": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.1, "description": "Longest wait in front of an idle device, as part of a one-row execution; only without other hosts, at arrival rates where more requests come within it"},
    "stale_ms": {"type": "integer", "minimum": 100, "maximum": 60000, "default": 1500, "description": "A link or a device of another host that has not been heard of for so long is not used"},
    "hysteresis": {"type": "number", "minimum": 0, "maximum": 0.9, "default": 0.1, "description": "What another cut or codec must gain before it replaces the present one"},
    "splits": {"type": "boolean", "default": true, "description": "Models may be cut between hosts"}
  },
  "additionalProperties": false
}"#;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) batch_max: u32,
    pub(crate) slack_share: f64,
    pub(crate) lead_us: u64,
    pub(crate) wait_share: f64,
    pub(crate) stale_ms: u64,
    pub(crate) hysteresis: f64,
    pub(crate) splits: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_max: 32,
            slack_share: 0.9,
            lead_us: 300,
            wait_share: 0.1,
            stale_ms: 1_500,
            hysteresis: 0.1,
            splits: true,
        }
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
            ("stale_ms", (100..=60_000).contains(&config.stale_ms), "100 to 60000"),
            ("hysteresis", (0.0..=0.9).contains(&config.hysteresis), "0 to 0.9"),
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
            (r#"{"splits":false,"stale_ms":300}"#, ""),
            (r#"{"batch_max":33}"#, "batch_max"),
            (r#"{"slack_share":0}"#, "slack_share"),
            (r#"{"stale_ms":1}"#, "stale_ms"),
            (r#"{"hysteresis":1.5}"#, "hysteresis"),
            (r#"{"mode":"aimd"}"#, "mode"),
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
