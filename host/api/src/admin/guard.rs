//! Who may call the admin interface over TCP.
//!
//! A browser on this machine can be made to call `http://attacker.example:8001`, with that name resolving to 127.0.0.1.
//! Then `Host` holds the foreign name; a call from a foreign page to `localhost` holds the page's `Origin`. Both are
//! refused before the token is looked at.

use crate::Secret;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub(super) async fn check_local(request: Request, next: Next) -> Response {
    match foreign(request.uri(), request.headers()) {
        Some(words) => Problem::new(StatusCode::FORBIDDEN, words).into_response(),
        None => next.run(request).await,
    }
}

pub(super) async fn check_token(State(token): State<Secret>, request: Request, next: Next) -> Response {
    if token.is_in(request.headers()) {
        next.run(request).await
    } else {
        Problem::new(StatusCode::UNAUTHORIZED, "the admin interface wants its token").into_response()
    }
}

/// Why the request is taken for one from elsewhere.
fn foreign(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let host = match uri.authority() {
        Some(authority) => Some(authority.clone()), // HTTP/2, and HTTP/1 in absolute form
        None => one(headers, &header::HOST).and_then(|v| v.parse::<Authority>().ok()),
    };
    let Some(host) = host.filter(is_loopback) else {
        return Some("Host must be localhost, 127.0.0.1 or [::1]");
    };
    if !headers.contains_key(header::ORIGIN) {
        return None;
    }
    let own = |origin: &str| origin.strip_prefix("http://").is_some_and(|o| o.eq_ignore_ascii_case(host.as_str()));
    let words = "Origin is another site's";
    one(headers, &header::ORIGIN).filter(|o| own(o)).is_none().then_some(words)
}

/// The header's value, where it is there exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value: &HeaderValue = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn is_loopback(authority: &Authority) -> bool {
    let has_user = authority.as_str().contains('@');
    !has_user && matches!(authority.host().to_ascii_lowercase().as_str(), "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins() {
        #[rustfmt::skip]
        let table = [
            (&["localhost:8001"][..], &[][..], true),
            (&["127.0.0.1:8001"], &[], true),
            (&["[::1]:8001"], &[], true),
            (&["LOCALHOST"], &[], true),
            (&["localhost:8001"], &["http://localhost:8001"], true),
            (&["localhost:8001"], &["http://localhost:9000"], false),
            (&["localhost:8001"], &["https://evil.example"], false),
            (&["localhost:8001"], &["null"], false),
            (&["localhost:8001"], &["http://localhost:8001", "http://localhost:8001"], false),
            (&["evil.example:8001"], &[], false),
            (&["localhost.evil.example"], &[], false),
            (&["127.0.0.1.evil.example"], &[], false),
            (&["evil@localhost"], &[], false),
            (&["localhost", "evil.example"], &[], false),
            (&["192.168.0.7:8001"], &[], false),
            (&[""], &[], false),
            (&[], &[], false),
        ];
        for (hosts, origins, allowed) in table {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            for origin in origins {
                headers.append(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(foreign(&Uri::from_static("/v1/status"), &headers).is_none(), allowed, "{hosts:?} {origins:?}");
        }
        let absolute = Uri::from_static("http://evil.example/v1/status");
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
        assert!(foreign(&absolute, &headers).is_some());
    }
}
