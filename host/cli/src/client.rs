//! HTTP as this program's own client speaks it: to a TCP address or a unix socket, with bounded answers and errors that
//! say what to do.

use crate::exit::usage;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::{Client as Pool, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The largest answer taken: a batch of activations of a large net fits, a runaway server does not fill the memory.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// A host on the same network answers a connection within this or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a host listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Plain HTTP, `http://host:port`, without a slash at the end.
    Http(String),
    /// A unix socket.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    /// `http://host:port`, `host:port` or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err("unix: needs a path, for example unix:/run/bps/admin.sock".into());
            }
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with("https://") {
            return Err("this client speaks plain HTTP; use curl for https:// addresses".into());
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let fine = !address.is_empty() && address.chars().all(|c| c.is_ascii_alphanumeric() || "._-:[]".contains(c));
        if !fine {
            return Err(format!("{text:?} is not an address; use http://HOST:PORT or unix:PATH"));
        }
        Ok(Self::Http(format!("http://{address}")))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(base) => f.write_str(base),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

/// Nothing listens there.
#[derive(Debug)]
pub(crate) struct Unreachable {
    endpoint: Endpoint,
    cause: String,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing answers at {} ({}); is `bps serve` running there?", self.endpoint, self.cause)
    }
}

impl std::error::Error for Unreachable {}

/// Sends requests to one host. Cloning shares the connections.
#[derive(Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    authorization: Option<HeaderValue>,
    pool: Pool<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client that has not connected yet; `token` is sent as a bearer token.
    pub(crate) fn new(endpoint: Endpoint, token: Option<&str>) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| usage("the token holds characters that a header cannot"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { endpoint, authorization, pool: Pool::builder(TokioExecutor::new()).build(connector) })
    }

    /// Where it sends.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends one request and reads the whole answer, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        body: Bytes,
    ) -> Result<Answer> {
        let base = match &self.endpoint {
            Endpoint::Http(base) => base.as_str(),
            Endpoint::Unix(_) => "",
        };
        let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = match &self.endpoint {
            Endpoint::Http(_) => {
                let request = request.body(Full::new(body)).context("the request cannot be built")?;
                self.pool.request(request).await.map_err(|e| self.unreachable(&e, e.is_connect()))?
            }
            Endpoint::Unix(path) => {
                let request =
                    request.header(HOST, "localhost").body(Full::new(body)).context("the request cannot be built")?;
                self.over_unix(path, request).await?
            }
        };
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|e| anyhow::anyhow!("the answer of {} broke off: {e}", self.endpoint))?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    #[cfg(unix)]
    async fn over_unix(
        &self,
        path: &std::path::Path,
        request: Request<Full<Bytes>>,
    ) -> Result<hyper::Response<hyper::body::Incoming>> {
        let stream = tokio::net::UnixStream::connect(path).await.map_err(|e| self.unreachable(&e, true))?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(async move {
            // Its error is also the error of the request below, which reports it.
            let _ = connection.await;
        });
        sender.send_request(request).await.map_err(|e| self.unreachable(&e, false))
    }

    #[cfg(not(unix))]
    async fn over_unix(
        &self,
        path: &std::path::Path,
        _request: Request<Full<Bytes>>,
    ) -> Result<hyper::Response<hyper::body::Incoming>> {
        bail!("unix sockets do not exist on this system: {}", path.display())
    }

    fn unreachable(&self, error: &dyn std::error::Error, is_connect: bool) -> anyhow::Error {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            cause = inner.to_string();
            source = inner.source();
        }
        if is_connect {
            Unreachable { endpoint: self.endpoint.clone(), cause }.into()
        } else {
            anyhow::anyhow!("the exchange with {} broke off: {cause}", self.endpoint)
        }
    }

    /// Sends and expects JSON back; an error status becomes an error that carries what the server said.
    pub(crate) async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (headers, body) = match body {
            None => (vec![], Bytes::new()),
            Some(v) => (vec![(hyper::header::CONTENT_TYPE, "application/json".to_owned())], v.to_string().into()),
        };
        let answer = self.send(method, path, &headers, body).await?;
        self.read_json(answer)
    }

    /// The JSON of an answer, or the error it carries.
    pub(crate) fn read_json(&self, answer: Answer) -> Result<Value> {
        if !answer.status.is_success() {
            bail!("{}", self.refusal(&answer));
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).with_context(|| format!("{} did not answer with JSON", self.endpoint))
    }

    /// What an error status means, in the server's words.
    pub(crate) fn refusal(&self, answer: &Answer) -> String {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = match body["error"].as_str() {
            Some(error) => error.to_owned(),
            None => String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).trim().to_owned(),
        };
        let stage = body["stage"].as_str().map(|s| format!(" (stage: {s})")).unwrap_or_default();
        let hint = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; is this its token? The start-up summary of `bps serve` names the token file: give --admin-token-file, or \
                 BPS_STATE_DIR with the folder of its --state-dir"
            }
            _ => "",
        };
        let told = format!("{} answered {}: {said}{stage}", self.endpoint, answer.status.as_u16());
        // What a policy says of its configuration names every field.
        crate::table::clean_to(&told, 1_000) + hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let ok = |t: &str| t.parse::<Endpoint>().unwrap().to_string();
        assert_eq!(ok("127.0.0.1:8000"), "http://127.0.0.1:8000");
        assert_eq!(ok("http://[::1]:8000/"), "http://[::1]:8000");
        assert_eq!(ok("unix:/run/a.sock"), "unix:/run/a.sock");
        assert_eq!(ok("unix:///run/a.sock"), "unix:/run/a.sock");
        for bad in ["", "unix:", "https://x", "http://", "http://a b", "http://a/b", "x\r\ny: z"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_a_hint() {
        let client = Client::new("127.0.0.1:1".parse().unwrap(), None).unwrap();
        let error = client.json(Method::GET, "/v1/status", None).await.unwrap_err().to_string();
        assert!(error.contains("http://127.0.0.1:1") && error.contains("bps serve"), "{error}");
    }

    #[test]
    fn a_token_that_is_no_header_is_refused() {
        assert!(Client::new("a:1".parse().unwrap(), Some("a\nb")).is_err());
    }
}
