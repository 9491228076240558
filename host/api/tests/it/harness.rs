//! A host with a small network, the API on free ports, and a client.

use axum::Router;
use bps_api::{ApiConfig, Secret, ServerLimits, TlsFiles, admin_router, client_router, serve_with};
use bps_graph::topology::{Topology, make};
use bps_node::{BuiltinModel, Host, HostConfig, ProfileChoice};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const TOKEN: &str = "0123456789abcdef";

/// How the digits network takes images; its input is `pixels`, 0 to 1, its output `logits`.
const MANIFEST: &str =
    "batch_max = 8\n[preprocess]\nwidth = 8\nheight = 8\nchannels = 1\nmean = [0.0]\nscale = [0.00392156862]\n";

/// A host that serves `digits` on the CPU.
pub(crate) async fn host() -> Host {
    host_on("cpu").await
}

pub(crate) async fn host_on(device: &str) -> Host {
    let onnx = Bytes::from(make(Topology::DigitsNet, 7));
    Host::start(HostConfig {
        devices: vec![device.parse().unwrap()],
        state_dir: None,
        profile: ProfileChoice::Off,
        builtin_models: vec![BuiltinModel {
            name: "digits".into(),
            onnx,
            manifest: MANIFEST.into(),
            calibration: Default::default(),
        }],
        ..HostConfig::default()
    })
    .await
    .unwrap()
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) host: Host,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn of(host: Host, router: Router, tls: Option<TlsFiles>, limits: ServerLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let until = async { drop(stopped.await) };
            serve_with(listener, tls, router, limits, until).await.unwrap();
        });
        Self { host, address, stop, task }
    }

    pub(crate) async fn client_port(host: Host, config: ApiConfig) -> Self {
        let router = client_router(host.clone(), config);
        Self::of(host, router, None, ServerLimits::default()).await
    }

    pub(crate) async fn admin_port(host: Host) -> Self {
        let router = admin_router(host.clone(), Secret::new(TOKEN).unwrap());
        Self::of(host, router, None, ServerLimits::default()).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        exchange(stream, method, path, headers, Bytes::copy_from_slice(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, &[], body.as_bytes()).await
    }

    /// Stops the server and waits for it.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        assert!(self.header("content-type").starts_with("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The words of a refusal.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error in {self:?}")).to_owned()
    }
}

/// One exchange over any stream.
pub(crate) async fn exchange<S>(stream: S, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers.iter().filter(|(name, value)| !(*name == "host" && value.is_empty())) {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Waits until something is so, and says what was awaited if it never is.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// The pixels of `row_count` made-up digits.
pub(crate) fn pixels(row_count: usize) -> Vec<f32> {
    (0..row_count * 64).map(|i| (i * 37 % 256) as f32 / 255.0).collect()
}

/// The body of a JSON request for them, with more fields after the inputs.
pub(crate) fn json_request(row_count: usize, more: &str) -> String {
    let data = serde_json::to_string(&pixels(row_count)).unwrap();
    format!(r#"{{"inputs":[{{"name":"pixels","shape":[{row_count},1,8,8],"datatype":"FP32","data":{data}}}]{more}}}"#)
}
