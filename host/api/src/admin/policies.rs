//! Which policies there are, uploading one, and changing which one decides.

use super::AdminApi;
use crate::problem::Problem;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use bps_node::{PolicyEntry, SwapReport, SwapRequest};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest name given to an upload; it is for people.
const NAME_CHARS_MAX: usize = 128;

pub(super) async fn list(State(api): State<AdminApi>) -> Json<Vec<PolicyEntry>> {
    Json(api.host.policies())
}

#[derive(Deserialize)]
pub(super) struct UploadQuery {
    name: Option<String>,
}

pub(super) async fn upload(
    State(api): State<AdminApi>,
    query: Result<Query<UploadQuery>, QueryRejection>,
    body: Body,
) -> Result<(StatusCode, Json<PolicyEntry>), Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let origin = match query.name {
        Some(name) if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) => {
            return Err(Problem::bad_request(format!("name must be at most {NAME_CHARS_MAX} printable characters")));
        }
        Some(name) => format!("upload {name}"),
        None => "upload".to_owned(),
    };
    let received = api.bodies.read(body).await?;
    if received.bytes.is_empty() {
        return Err(Problem::bad_request("the body must be a policy component; it is empty"));
    }
    let entry = api.host.load_policy(received.bytes.into(), origin).await?;
    Ok((StatusCode::CREATED, Json(entry)))
}

/// Fields that are absent have the values of [`SwapRequest::default`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object with the policy's name")]
struct SwapBody<'a> {
    policy: String,
    /// JSON, or a string that holds JSON.
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    seed: Option<u64>,
    carry_state: Option<bool>,
    rehearse: Option<bool>,
}

pub(super) async fn swap(State(api): State<AdminApi>, body: Body) -> Result<Json<SwapReport>, Problem> {
    let received = api.bodies.read(body).await?;
    let request = swap_request(&received.bytes).map_err(|e| Problem::bad_request(format!("malformed JSON: {e}")))?;
    Ok(Json(api.host.swap_policy(request).await?))
}

fn swap_request(json: &[u8]) -> Result<SwapRequest, serde_json::Error> {
    let body: SwapBody<'_> = serde_json::from_slice(json)?;
    let config = match body.config.map(RawValue::get) {
        None => String::new(),
        Some(text) if text.starts_with('"') => serde_json::from_str(text)?,
        Some(text) => text.to_owned(),
    };
    let default = SwapRequest::default();
    Ok(SwapRequest {
        policy: body.policy,
        config,
        seed: body.seed.unwrap_or(default.seed),
        carry_state: body.carry_state.unwrap_or(default.carry_state),
        rehearse: body.rehearse.unwrap_or(default.rehearse),
    })
}

pub(super) async fn rollback(State(api): State<AdminApi>) -> Result<Json<SwapReport>, Problem> {
    Ok(Json(api.host.rollback_policy().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_bodies() {
        let full = br#"{"policy":"p@1","config":{"a": [1]},"seed":7,"carry_state":false,"rehearse":false}"#;
        let request = swap_request(full).unwrap();
        let expected = SwapRequest {
            policy: "p@1".into(),
            config: r#"{"a": [1]}"#.into(),
            seed: 7,
            carry_state: false,
            rehearse: false,
        };
        assert_eq!(request, expected);
        assert_eq!(swap_request(br#"{"policy":"p","config":"{\"a\":1}"}"#).unwrap().config, r#"{"a":1}"#);
        assert_eq!(
            swap_request(br#"{"policy":"p"}"#).unwrap(),
            SwapRequest { policy: "p".into(), ..Default::default() }
        );
        for wrong in [&b""[..], b"{}", b"7", br#"{"policy":"p","sed":1}"#, br#"{"policy":"p","seed":-1}"#] {
            assert!(swap_request(wrong).is_err(), "{wrong:?}");
        }
    }
}
