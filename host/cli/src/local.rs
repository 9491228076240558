//! A host in this process, reached through real sockets on loopback: what the demo and the benchmarks run against.

use crate::client::{Client, Endpoint};
use crate::commands::serve::{Endpoints, Serving, bind};
use crate::infer_wire::{self, Named, WireRequest};
use anyhow::{Context, Result};
use bps_node::{BuiltinModel, DrainReport, Host, HostConfig, ModelControl};
use bps_types::{DataType, HostTensor};
use bytes::Bytes;
use serde_json::json;

/// The digits model that comes with the program, trained by `bps model train digits`.
pub(crate) static DIGITS_ONNX: &[u8] = include_bytes!("../../../models/digits/model.onnx");
/// Its `model.toml`.
const DIGITS_MANIFEST: &str = include_str!("../../../models/digits/model.toml");
/// What FF was calibrated with, by `bps calibrate models/digits --data digits`.
static DIGITS_CALIBRATION: &[u8] = include_bytes!("../../../models/digits/model.ff");
/// The name it is served under.
pub(crate) const DIGITS: &str = "digits";

/// A host with its sockets.
pub(crate) struct LocalHost {
    /// The host itself.
    pub(crate) host: Host,
    /// A client of its inference port.
    pub(crate) client: Client,
    /// A client of its admin port, let in.
    pub(crate) admin: Client,
    serving: Serving,
}

impl LocalHost {
    /// Starts a host and serves it on ports that the system chooses.
    pub(crate) async fn start(config: HostConfig) -> Result<Self> {
        let any_port = "127.0.0.1:0";
        let token = bps_api::new_token()?;
        let endpoints = Endpoints {
            listen: any_port.into(),
            admin: Endpoint::Http(format!("http://{any_port}")),
            admin_token: token.clone(),
            client_token: None,
            tls: None,
            model_control: ModelControl::None,
            body_bytes_max: config.body_bytes_max,
        };
        let listeners = bind(&endpoints).await?;
        let host = Host::start(config).await.context("the host did not start")?;
        let serving = listeners.serve(&host, &endpoints)?;
        let client = Client::new(Endpoint::Http(format!("http://{}", serving.addresses.client)), None)?;
        let admin = Client::new(serving.addresses.admin.clone(), Some(&token))?;
        Ok(Self { host, client, admin, serving })
    }

    /// Finishes what waits and runs, and closes the sockets.
    pub(crate) async fn stop(self) -> DrainReport {
        let report = self.host.drain().await;
        self.serving.stop().await;
        report
    }
}

/// The digits model as a host takes it.
pub(crate) fn digits_model() -> BuiltinModel {
    BuiltinModel {
        name: DIGITS.into(),
        onnx: Bytes::from_static(DIGITS_ONNX),
        manifest: DIGITS_MANIFEST.into(),
        calibration: Bytes::from_static(DIGITS_CALIBRATION),
    }
}

/// A digit that the model has not seen: how to ask for it, and the right answer.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The request.
    pub(crate) request: WireRequest,
    /// Its input alone, for those who ask without HTTP.
    pub(crate) input: Named,
    /// The class it is.
    pub(crate) label: u8,
}

/// Every held-out digit as a request of raw pixels, which the host normalises.
pub(crate) fn digit_questions(host: &Host) -> Result<Vec<Question>> {
    let model = host.model(DIGITS, None).context("the digits model is not served")?;
    let input_name = model.inputs.first().context("the digits model has no input")?.name.clone();
    let side = bps_engine::digits::SIDE;
    let ask = |digit: bps_engine::digits::Digit| {
        let pixels = Bytes::copy_from_slice(&digit.pixels);
        let tensor = HostTensor::new(DataType::Uint8, vec![1, side, side, 1], pixels)?;
        let input = Named { name: input_name.clone(), tensor };
        let request = infer_wire::encode(std::slice::from_ref(&input), &[], &json!({}));
        Ok(Question { request, input, label: digit.label })
    };
    bps_engine::digits::held_out().into_iter().map(ask).collect()
}

/// The class with the highest score in a row of scores.
pub(crate) fn best_class(scores: &HostTensor) -> Option<u8> {
    let scores = scores.to_f32().ok()?;
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?.0;
    u8::try_from(best).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_class_is_the_highest_score() {
        let tensor = HostTensor::from_f32(vec![1, 3], &[0.5, 3.0, -1.0]).unwrap();
        assert_eq!(best_class(&tensor), Some(1));
        assert_eq!(best_class(&HostTensor::from_f32(vec![1, 0], &[]).unwrap()), None);
    }
}
