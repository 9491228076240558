//! Load on one host, from where that host is: a thread that enters its network namespace and keeps to its core, as clients on
//! the device itself would. Nothing else of the test bed runs there.

use super::network::Site;
use crate::arrivals::{self, Load};
use crate::client::Client;
use crate::infer_wire::{self, Named, WireRequest};
use crate::local::best_class;
use anyhow::{Context, Result, anyhow, bail};
use bps_data::{Set, Split};
use bps_types::{DataType, HostTensor, element_count};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Different inputs of noise that are sent in turn; more would not change what is measured.
const INPUTS: u64 = 16;
/// Pictures of a set that are sent in turn.
const PICTURES: usize = 500;
/// A client that was turned away waits this long: a closed loop must not become a storm.
const PAUSE: Duration = Duration::from_millis(5);
/// How long after a run its last answers may come; what has none by then is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// This many clients, each asking again as soon as it is answered.
    Closed(usize),
    /// At moments that do not depend on answers.
    Open(Load),
}

/// One run's load on one host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// How requests come.
    pub(super) shape: Shape,
    /// Before the window: the policy finds its feet, links are measured.
    pub(super) settle: Duration,
    /// The window.
    pub(super) span: Duration,
    /// What arrivals are drawn from.
    pub(super) seed: u64,
    /// When the window begins.
    pub(super) opens: Instant,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// When, seconds from the beginning of the window; negative while it settles.
    pub(super) at: f64,
    /// From when it was due, seconds.
    pub(super) latency: f64,
    /// With what.
    pub(super) end: End,
}

/// With what a request ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// An answer, and whether it names the right class where that is known.
    Answered(Option<bool>),
    /// The host gave it up in time and said so.
    Expired,
    /// The host had no room.
    Refused,
    /// Anything else.
    Failed(String),
    /// Nothing was heard of it.
    Lost,
}

/// What requests hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The scans that the digits net has not seen.
    Scans,
    /// Test pictures of a set.
    Pictures(Set),
    /// Nothing in particular.
    Noise,
}

/// How a host describes a model.
#[derive(Debug)]
pub(super) struct Described {
    metadata: Value,
    /// Its image input, in the words of its configuration.
    image: Option<String>,
}

impl Described {
    /// From `/v2/models/NAME` and `/v2/models/NAME/config`.
    pub(super) fn new(metadata: Value, config: &Value) -> Self {
        let image = config["parameters"]["image_input"]["string_value"].as_str().map(str::to_owned);
        Self { metadata, image }
    }
}

/// What can be asked of a model.
#[derive(Debug)]
pub(super) struct Questions {
    path: String,
    list: Vec<(WireRequest, Option<u8>)>,
}

impl Questions {
    /// Requests for a model, as its host describes it: scans and pictures with their labels, or seeded noise of the right
    /// shape, as pixels where the model takes images.
    pub(super) fn for_model(
        name: &str,
        content: Content,
        described: &Described,
        deadline: Option<Duration>,
    ) -> Result<Self> {
        let Described { metadata, image } = described;
        let parameters = deadline.map_or(json!({}), |d| json!({ "timeout": d.as_micros() as u64 }));
        let inputs = metadata["inputs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let encode = |named: Vec<Named>| infer_wire::encode(&named, &[], &parameters);
        let list = if content == Content::Scans {
            let input = inputs.first().and_then(|i| i["name"].as_str()).context("the digits model has no input")?;
            let ask = |digit: bps_engine::digits::Digit| {
                let side = bps_engine::digits::SIDE;
                let pixels = Bytes::copy_from_slice(&digit.pixels);
                let tensor = HostTensor::new(DataType::Uint8, vec![1, side, side, 1], pixels)?;
                anyhow::Ok((encode(vec![Named { name: input.to_owned(), tensor }]), Some(digit.label)))
            };
            bps_engine::digits::held_out().into_iter().map(ask).collect::<Result<_>>()?
        } else if let Content::Pictures(set) = content {
            let image = image.as_deref().and_then(Image::of);
            let image = image.with_context(|| format!("model {name} takes no images: --data is not for it"))?;
            let [_, side, width, channels] = image.shape[..] else { bail!("the model's image has no three extents") };
            if side != width || !bps_data::SIDES.contains(&side) || channels != set.channels() {
                let sides = bps_data::SIDES.map(|side| side.to_string()).join(" or ");
                bail!(
                    "{set} has square pictures of {sides} pixels in {} channels, {name} takes {side} x {width} in {channels}",
                    set.channels()
                );
            }
            let ask = |picture: bps_data::Picture| {
                let tensor = HostTensor::new(DataType::Uint8, image.shape.clone(), picture.pixels.into())?;
                anyhow::Ok((encode(vec![Named { name: image.input.clone(), tensor }]), Some(picture.label)))
            };
            bps_data::rows(set, Split::Test, side, PICTURES).map(ask).collect::<Result<_>>()?
        } else {
            let image = image.as_deref().and_then(Image::of);
            let ask = |seed| {
                let named = inputs.iter().map(|spec| input(spec, image.as_ref(), seed)).collect::<Result<_>>()?;
                anyhow::Ok((encode(named), None))
            };
            (0..INPUTS).map(ask).collect::<Result<_>>()?
        };
        Ok(Self { path: infer_wire::path(name, None), list })
    }

    async fn ask(&self, client: &Client, number: usize) -> End {
        let (request, label) = &self.list[number % self.list.len()];
        let sent = client.send(Method::POST, &self.path, &request.headers, request.body.clone());
        let answer = match tokio::time::timeout(PATIENCE, sent).await {
            Err(_) => return End::Lost,
            Ok(Err(error)) => return End::Failed(format!("{error:#}")),
            Ok(Ok(answer)) => answer,
        };
        match answer.status {
            status if status.is_success() => match infer_wire::decode(&answer) {
                Err(error) => End::Failed(format!("{error:#}")),
                Ok(reply) => {
                    let class = reply.outputs.first().and_then(|o| best_class(&o.tensor));
                    End::Answered(label.map(|label| class == Some(label)))
                }
            },
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => End::Expired,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => End::Refused,
            _ => End::Failed(client.refusal(&answer)),
        }
    }
}

/// An input that takes pixels.
struct Image {
    input: String,
    shape: Vec<usize>,
}

impl Image {
    /// As the configuration says it: `NAME WIDTHxHEIGHTxCHANNELS`.
    fn of(text: &str) -> Option<Self> {
        let (input, size) = text.rsplit_once(' ')?;
        let sizes: Vec<usize> = size.split('x').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [width, height, channels] = sizes[..] else { return None };
        Some(Self { input: input.to_owned(), shape: vec![1, height, width, channels] })
    }
}

/// Seeded noise for one input: smooth pixels for an image, numbers in 0..1 for a tensor.
fn input(spec: &Value, image: Option<&Image>, seed: u64) -> Result<Named> {
    let name = spec["name"].as_str().context("the host names no input")?.to_owned();
    if let Some(image) = image.filter(|i| i.input == name) {
        let tensor = HostTensor::new(DataType::Uint8, image.shape.clone(), picture(&image.shape, seed).into())?;
        return Ok(Named { name, tensor });
    }
    let extents = spec["shape"].as_array().with_context(|| format!("input {name:?} has no shape"))?;
    // A free extent is one row.
    let shape: Vec<usize> = extents.iter().map(|e| e.as_u64().map_or(1, |n| n as usize)).collect();
    let data_type = spec["datatype"].as_str().unwrap_or_default();
    if data_type != "FP32" {
        return Err(anyhow!("input {name:?} is {data_type}; the test bed fills FP32 and images"));
    }
    let count = element_count(&shape).with_context(|| format!("input {name:?} is too large"))?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..count).map(|_| (random.next_u32() >> 8) as f32 / (1 << 24) as f32).collect();
    Ok(Named { name, tensor: HostTensor::from_f32(shape, &values)? })
}

/// A picture of slow waves with a little noise, so that a JPEG of it is neither empty nor hopeless.
fn picture(shape: &[usize], seed: u64) -> Vec<u8> {
    let [_, height, width, channels] = *shape else { return Vec::new() };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut wave = || (random.next_u32() % 7 + 1) as f32 / 100.0;
    let (down, across, turn) = (wave(), wave(), wave() * 100.0);
    let mut pixels = Vec::with_capacity(height * width * channels);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                let phase = y as f32 * down + x as f32 * across + channel as f32 * turn;
                let noise = (random.next_u32() % 17) as f32 - 8.0;
                pixels.push((128.0 + 90.0 * phase.sin() + noise) as u8);
            }
        }
    }
    pixels
}

/// Starts the load; the answers come when the run is over.
pub(super) fn start(
    site: &Site,
    client: impl FnOnce() -> Result<Client> + Send + 'static,
    questions: &Arc<Questions>,
    work: Work,
) -> Result<oneshot::Receiver<Result<Vec<Answer>>>> {
    let (ended, answers) = oneshot::channel();
    let (site, questions) = (site.clone(), Arc::clone(questions));
    let there = move || -> Result<Vec<Answer>> {
        site.enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(drive(client()?, questions, work))
    };
    std::thread::Builder::new().name("load".into()).spawn(move || {
        // A test bed that was interrupted has nobody left to tell.
        let _ = ended.send(there());
    })?;
    Ok(answers)
}

async fn drive(client: Client, questions: Arc<Questions>, work: Work) -> Result<Vec<Answer>> {
    let (told, mut heard) = mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    let closes = work.opens + work.span;
    match work.shape {
        Shape::Closed(clients) => {
            for number in 0..clients {
                let (client, questions, told) = (client.clone(), Arc::clone(&questions), told.clone());
                tasks.spawn(async move {
                    let mut next = number * 7;
                    while Instant::now() < closes {
                        let due = Instant::now();
                        let end = questions.ask(&client, next).await;
                        let turned_away = !matches!(end, End::Answered(_));
                        // The receiver outlives the tasks.
                        let _ = told.send(answer(due, work.opens, end));
                        if turned_away {
                            tokio::time::sleep(PAUSE).await;
                        }
                        next += 1;
                    }
                });
            }
        }
        Shape::Open(load) => {
            let begun = work.opens - work.settle;
            let times = arrivals::schedule(load, work.settle + work.span, work.seed);
            for (number, time) in times.into_iter().enumerate() {
                let due = begun + time;
                tokio::time::sleep_until(due.into()).await;
                let (client, questions, told) = (client.clone(), Arc::clone(&questions), told.clone());
                tasks.spawn(async move {
                    let end = questions.ask(&client, number).await;
                    let _ = told.send(answer(due, work.opens, end));
                });
            }
        }
    }
    drop(told);
    let mut answers = Vec::new();
    while let Some(one) = heard.recv().await {
        answers.push(one);
    }
    answers.sort_by(|a, b| a.at.total_cmp(&b.at));
    Ok(answers)
}

fn answer(due: Instant, opens: Instant, end: End) -> Answer {
    let now = Instant::now();
    let at = now.saturating_duration_since(opens).as_secs_f64() - opens.saturating_duration_since(now).as_secs_f64();
    Answer { at, latency: now.saturating_duration_since(due).as_secs_f64(), end }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model with an image input, as hosts say it (`host/api/src/oip/model.rs`).
    fn images(metadata: Value, size: &str) -> Described {
        Described::new(metadata, &json!({ "parameters": { "image_input": { "string_value": size } } }))
    }

    #[test]
    fn inputs_follow_the_description() {
        let metadata = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 3, 4, 4] }] });
        let (described, deadline) = (Described::new(metadata, &Value::Null), Some(Duration::from_millis(20)));
        let questions = Questions::for_model("net", Content::Noise, &described, deadline).unwrap();
        assert_eq!((questions.list.len(), questions.path.as_str()), (INPUTS as usize, "/v2/models/net/infer"));
        let body = &questions.list[0].0.body;
        let head = String::from_utf8_lossy(&body[..body.len() - 3 * 4 * 4 * 4]).into_owned();
        assert!(head.contains("[1,3,4,4]") && head.contains("\"timeout\":20000"), "{head}");
        assert_ne!(questions.list[0].0.body, questions.list[1].0.body);
    }

    #[test]
    fn a_model_that_takes_images_gets_pixels() {
        let metadata = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 3, 8, 6] }] });
        let questions = Questions::for_model("net", Content::Noise, &images(metadata, "x 6x8x3"), None).unwrap();
        let body = String::from_utf8_lossy(&questions.list[0].0.body).into_owned();
        assert!(body.contains("UINT8") && body.contains("[1,8,6,3]"), "{body}");
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let metadata = json!({ "inputs": [{ "name": "tokens", "datatype": "INT64", "shape": [-1] }] });
        let described = Described::new(metadata, &Value::Null);
        let error = Questions::for_model("net", Content::Noise, &described, None).unwrap_err().to_string();
        assert!(error.contains("tokens") && error.contains("INT64"), "{error}");
    }

    #[test]
    fn digits_have_labels() {
        let metadata = json!({ "inputs": [{ "name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8] }] });
        let described = Described::new(metadata, &Value::Null);
        let questions = Questions::for_model("digits", Content::Scans, &described, None).unwrap();
        assert!(questions.list.len() > 100 && questions.list.iter().all(|(_, label)| label.is_some_and(|l| l < 10)));
    }

    #[test]
    fn pictures_have_labels_and_must_fit() {
        let of = |size: &str| images(json!({ "inputs": [] }), size);
        let ask = |size: &str| Questions::for_model("net", Content::Pictures(Set::Shapes), &of(size), None);
        let questions = ask("x 32x32x3").unwrap();
        assert_eq!(questions.list.len(), PICTURES);
        assert!(questions.list.iter().all(|(_, label)| label.is_some()));
        for wrong in ["x 32x64x3", "x 28x28x3", "x 32x32x1"] {
            assert!(ask(wrong).unwrap_err().to_string().contains("shapes has square pictures"), "{wrong}");
        }
    }
}
