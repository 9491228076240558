//! `bps infer`: one request to a running host, and its answer as people read it.

mod inputs;
mod show;

use crate::client::{Client, Endpoint};
use crate::config::{self, DEFAULT_LISTEN};
use crate::exit::usage;
use crate::infer_wire::{self, Named, Reply};
use crate::output::Output;
use crate::{npy, state};
use anyhow::{Context, Result, bail};
use hyper::Method;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TEACH: &str = "\
Inputs, each as [NAME=]VALUE (the name may be left out where the model has one input)
  FILE.npy           a NumPy array, sent as it is
  FILE.png, .jpg     an encoded image, for models whose model.toml has [preprocess]; the host decodes and resizes it
  FILE.json          nested lists of numbers
  [[0.1, 0.2]]       the same, on the command line
Outputs, each as NAME or NAME=FILE.npy; without --output all are shown. An output of one row of classes is shown as its top
classes; other outputs by shape and first values.

Examples
  bps infer --model resnet50 --input cat.jpg --labels imagenet.txt
  bps infer --model digits --input digit.npy --output logits=out.npy
  bps infer --model net --input 'x=[[1, 2, 3]]' --format json";

/// Ask a running host for one inference.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = format!("{TEACH}\n\n{}", crate::exit::EXIT_CODES))]
pub(crate) struct InferArgs {
    /// Where the host answers clients: http://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_LISTEN, env = "BPS_URL")]
    url: Endpoint,
    /// Which model.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Which version [default: the highest].
    #[arg(long, value_name = "VERSION")]
    model_version: Option<String>,
    /// An input as [NAME=]VALUE; repeat for more.
    #[arg(long, value_name = "[NAME=]VALUE", required = true)]
    input: Vec<String>,
    /// An output wanted, NAME or NAME=FILE.npy; repeat for more.
    #[arg(long, value_name = "NAME[=FILE]")]
    output: Vec<String>,
    /// File with one class name per line, for the table.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How many classes to show.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Urgency, 0 to 255 [default: the model's].
    #[arg(long)]
    priority: Option<u8>,
    /// How long a result is useful, for example 50ms; after that the host gives up on it.
    #[arg(long, value_name = "SPAN", value_parser = config::span)]
    timeout: Option<Duration>,
    /// File with the token that the host wants from clients.
    #[arg(long, value_name = "FILE", env = "BPS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// Sends the request and shows the answer.
pub(crate) async fn run(args: InferArgs, out: Output) -> Result<()> {
    let token = args.token_file.as_deref().map(state::read_token).transpose()?;
    let client = Client::new(args.url.clone(), token.as_deref())?;
    let labels = args.labels.as_deref().map(read_labels).transpose()?;
    let version = args.model_version.as_deref();
    let metadata = client.json(Method::GET, &infer_wire::metadata_path(&args.model, version), None).await?;
    let mut named = Vec::with_capacity(args.input.len());
    for text in &args.input {
        named.push(inputs::read(text, &metadata)?);
    }
    let wanted: Vec<(&str, Option<&Path>)> = args.output.iter().map(|text| output_choice(text)).collect();
    let names: Vec<String> = wanted.iter().map(|(name, _)| (*name).to_owned()).collect();
    let reply = send(&client, &args, &named, &names).await?;
    for (name, file) in wanted {
        if let Some(file) = file {
            save(&reply, name, file)?;
        }
    }
    out.emit(&as_json(&reply), |_| show::text(&reply, labels.as_deref(), args.top))
}

async fn send(client: &Client, args: &InferArgs, inputs: &[Named], outputs: &[String]) -> Result<Reply> {
    let mut parameters = Map::new();
    if let Some(priority) = args.priority {
        parameters.insert("priority".into(), priority.into());
    }
    if let Some(timeout) = args.timeout {
        let micros = u64::try_from(timeout.as_micros()).map_err(|_| usage("--timeout is too long"))?;
        parameters.insert("timeout".into(), micros.into());
    }
    let request = infer_wire::encode(inputs, outputs, &Value::Object(parameters));
    let path = infer_wire::path(&args.model, args.model_version.as_deref());
    let answer = client.send(Method::POST, &path, &request.headers, request.body).await?;
    if !answer.status.is_success() {
        bail!("{}", client.refusal(&answer));
    }
    infer_wire::decode(&answer)
}

fn output_choice(text: &str) -> (&str, Option<&Path>) {
    text.split_once('=').map_or((text, None), |(name, file)| (name, Some(Path::new(file))))
}

fn save(reply: &Reply, name: &str, file: &Path) -> Result<()> {
    let output = reply.outputs.iter().find(|o| o.name == name);
    let output = output.with_context(|| format!("the answer has no output {name:?}"))?;
    let bytes = npy::encode(&output.tensor)?;
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// A line for each class.
const LABELS_BYTES_MAX: u64 = 16 << 20;

fn read_labels(path: &Path) -> Result<Vec<String>> {
    let text = crate::config::read_bounded(path, LABELS_BYTES_MAX);
    let text = text.map_err(|e| usage(format!("labels {}: {e}", path.display())))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn as_json(reply: &Reply) -> Value {
    let output = |o: &Named| {
        json!({ "name": o.name, "datatype": o.tensor.data_type().name(), "shape": o.tensor.shape(),
                "data": infer_wire::to_json(&o.tensor) })
    };
    json!({
        "model_name": reply.model,
        "model_version": reply.version,
        "outputs": reply.outputs.iter().map(output).collect::<Vec<_>>(),
        "timing": reply.timing,
    })
}
