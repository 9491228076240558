//! Configuration is JSON; an empty text is an empty object, an unknown key is an error that names its place.

use crate::ConfigError;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The config of a policy that has nothing to configure: `{}` or nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Reads a config; give the type `#[serde(deny_unknown_fields, default)]`.
pub fn parse_config<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|error| ConfigError::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_names_itself_and_its_place() {
        let Err(ConfigError::Invalid(reason)) = parse_config::<NoConfig>("{\"batch\": 3}") else { panic!("accepted") };
        assert!(reason.contains("batch") && reason.contains("line 1"), "{reason}");
    }

    #[test]
    fn nothing_is_an_empty_object() {
        assert!(parse_config::<NoConfig>(" ").is_ok());
    }
}
