//! Codecs of other programs, asked over their stdin and stdout. `tests/rivals/README.md` describes the protocol for those
//! who write one.
//!
//! What comes back is not trusted further than it must be: headers have a size, arrays have that of what was sent, and a
//! number that is none is an error.

use anyhow::{Context, Result, anyhow, bail};
use bps_types::{DataType, HostTensor};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io::{BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The protocol's version.
const PROTOCOL: u32 = 1;
/// Longest header of a reply.
const HEADER_BYTES_MAX: u32 = 1 << 20;
/// How libraries are told to use one thread.
const ONE_THREAD: [&str; 3] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];

/// A message.
#[derive(Serialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Ask<'a> {
    /// Calibration rows follow; which codecs are there?
    Fit {
        protocol: u32,
        #[serde(rename = "type")]
        kind: &'static str,
        shape: &'a [usize],
        /// What an error in each channel costs at the model's end, where it was measured.
        weights: Option<&'a [f32]>,
    },
    /// Rows follow that go there and back.
    Code {
        codec: &'a str,
        setting: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        shape: &'a [usize],
    },
}

/// One codec of a program.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    /// What can be chosen, from one end to the other.
    pub(super) settings: Vec<String>,
    /// Bits are those of a coder without any loss, not of a file.
    pub(super) ideal: bool,
    /// `library` where times are those of a library's calls; else they say nothing.
    pub(super) timed: String,
}

#[derive(Deserialize)]
struct Reply {
    error: Option<String>,
    codecs: Option<Vec<Listed>>,
    bits: Option<f64>,
    encode_seconds: Option<f64>,
    decode_seconds: Option<f64>,
}

/// What became of a message.
pub(super) struct Coded {
    pub(super) bits: f64,
    pub(super) encode_seconds: Option<f64>,
    pub(super) decode_seconds: Option<f64>,
    pub(super) decoded: HostTensor,
}

/// Both ends of a program's pipes.
struct Pipes<R, W> {
    from: R,
    to: W,
}

/// A program that runs.
pub(super) struct Rival {
    /// The command line.
    pub(super) command: String,
    child: Child,
    /// None when it is over.
    pipes: Option<Pipes<BufReader<ChildStdout>, BufWriter<ChildStdin>>>,
}

impl Rival {
    /// Starts a program: words of the command line, split at blanks.
    pub(super) fn start(command: &str) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("an empty command was given for rivals")?;
        let mut process = Command::new(program);
        process.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        process.envs(ONE_THREAD.map(|name| (name, "1")));
        let mut child = process.spawn().with_context(|| format!("{command} does not start"))?;
        let pipes = child.stdout.take().zip(child.stdin.take());
        let pipes = pipes.map(|(from, to)| Pipes { from: BufReader::new(from), to: BufWriter::new(to) });
        Ok(Self { command: command.to_owned(), child, pipes })
    }

    /// Shows it the calibration rows, and asks which codecs it has for them.
    pub(super) fn fit(&mut self, rows: &HostTensor, weights: Option<&[f32]>) -> Result<Vec<Listed>> {
        self.ask(|pipes| pipes.fit(rows, weights))
    }

    /// Sends rows through a codec. The inner error is the codec's own: others may do better.
    pub(super) fn code(&mut self, codec: &str, setting: &str, rows: &HostTensor) -> Result<Result<Coded, String>> {
        self.ask(|pipes| pipes.code(codec, setting, rows))
    }

    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Pipes<BufReader<ChildStdout>, BufWriter<ChildStdin>>) -> Result<T>,
    ) -> Result<T> {
        let pipes = self.pipes.as_mut().context("it has ended")?;
        question(pipes).with_context(|| format!("rival {}", self.command))
    }
}

impl Drop for Rival {
    /// Without its stdin it ends; whatever is left of it is ended.
    fn drop(&mut self) {
        drop(self.pipes.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<R: Read, W: Write> Pipes<R, W> {
    fn fit(&mut self, rows: &HostTensor, weights: Option<&[f32]>) -> Result<Vec<Listed>> {
        self.send(&Ask::Fit { protocol: PROTOCOL, kind: kind(rows)?, shape: rows.shape(), weights }, rows)?;
        let reply = self.header()?;
        match (reply.error, reply.codecs) {
            (Some(error), _) => Err(anyhow!(error)),
            (None, Some(codecs)) => Ok(codecs),
            (None, None) => bail!("its reply lists no codecs"),
        }
    }

    fn code(&mut self, codec: &str, setting: &str, rows: &HostTensor) -> Result<Result<Coded, String>> {
        let about = || format!("codec {codec} at {setting}");
        self.send(&Ask::Code { codec, setting, kind: kind(rows)?, shape: rows.shape() }, rows)?;
        let reply = self.header().with_context(about)?;
        if let Some(error) = reply.error {
            return Ok(Err(error));
        }
        let mut data = vec![0; rows.data().len()];
        self.from.read_exact(&mut data).context("what it decoded is cut off").with_context(about)?;
        let plausible = |number: f64| number.is_finite() && number >= 0.0;
        let seconds = [reply.encode_seconds, reply.decode_seconds];
        let Some(bits) = reply.bits.filter(|bits| plausible(*bits)) else { bail!("{}: no number of bits", about()) };
        if seconds.iter().flatten().any(|seconds| !plausible(*seconds)) {
            bail!("{}: a time that is none", about());
        }
        let decoded = HostTensor::new(rows.data_type(), rows.shape().to_vec(), Bytes::from(data))?;
        Ok(Ok(Coded { bits, encode_seconds: seconds[0], decode_seconds: seconds[1], decoded }))
    }

    fn send(&mut self, ask: &Ask<'_>, rows: &HostTensor) -> Result<()> {
        let text = serde_json::to_vec(ask)?;
        let length = u32::try_from(text.len()).context("a header without end")?;
        let parts = [&length.to_le_bytes()[..], &text, rows.data()];
        parts.iter().try_for_each(|part| self.to.write_all(part)).context("it does not read")?;
        self.to.flush().context("it does not read")
    }

    fn header(&mut self) -> Result<Reply> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length).context("it ended without a reply")?;
        let length = u32::from_le_bytes(length);
        if length > HEADER_BYTES_MAX {
            bail!("its reply has a header of {length} bytes, {HEADER_BYTES_MAX} are allowed");
        }
        let mut text = vec![0; length as usize];
        self.from.read_exact(&mut text).context("its reply is cut off")?;
        serde_json::from_slice(&text).context("its reply is not as described")
    }
}

fn kind(rows: &HostTensor) -> Result<&'static str> {
    match rows.data_type() {
        DataType::Fp32 => Ok("f32"),
        DataType::Uint8 => Ok("u8"),
        other => bail!("{other} is not for rivals"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(head: &str, data: &[u8]) -> Vec<u8> {
        [&(head.len() as u32).to_le_bytes()[..], head.as_bytes(), data].concat()
    }

    fn rows() -> HostTensor {
        HostTensor::from_f32(vec![1, 2], &[1.0, 2.0]).unwrap()
    }

    fn code(reply: Vec<u8>) -> Result<Result<Coded, String>> {
        Pipes { from: &reply[..], to: Vec::new() }.code("zip", "9", &rows())
    }

    #[test]
    fn what_is_asked_is_framed() {
        let list = r#"{"codecs":[{"name":"zip","settings":["1","9"],"ideal":false,"timed":"library"}]}"#;
        let reply = message(list, &[]);
        let mut pipes = Pipes { from: &reply[..], to: Vec::new() };
        let codecs = pipes.fit(&rows(), Some(&[0.5, 1.0])).unwrap();
        assert_eq!((codecs[0].name.as_str(), codecs[0].settings.len()), ("zip", 2));
        let head = r#"{"do":"fit","protocol":1,"type":"f32","shape":[1,2],"weights":[0.5,1.0]}"#;
        assert_eq!(pipes.to, message(head, rows().data()));
        let reply = message(r#"{"bits":12.5,"encode_seconds":0.25}"#, HostTensor::data(&rows()));
        let mut pipes = Pipes { from: &reply[..], to: Vec::new() };
        let coded = pipes.code("zip", "9", &rows()).unwrap().unwrap();
        assert_eq!((coded.bits, coded.encode_seconds, coded.decode_seconds), (12.5, Some(0.25), None));
        assert_eq!(coded.decoded, rows());
        assert_eq!(
            pipes.to,
            message(r#"{"do":"code","codec":"zip","setting":"9","type":"f32","shape":[1,2]}"#, rows().data())
        );
    }

    #[test]
    fn a_codec_may_refuse_and_a_program_may_not_lie() {
        assert_eq!(code(message(r#"{"error":"too small"}"#, &[])).unwrap().err().unwrap(), "too small");
        let fault = |reply| format!("{:#}", code(reply).err().unwrap());
        let cases = [
            (Vec::new(), "ended without a reply"),
            (u32::MAX.to_le_bytes().to_vec(), "4294967295 bytes"),
            (message("{}", &[])[..5].to_vec(), "cut off"),
            (message("[]", &[]), "not as described"),
            (message("{}", &[0; 8]), "no number of bits"),
            (message(r#"{"bits":-1}"#, &[0; 8]), "no number of bits"),
            (message(r#"{"bits":1,"decode_seconds":-0.5}"#, &[0; 8]), "a time that is none"),
            (message(r#"{"bits":1}"#, &[0; 7]), "what it decoded is cut off"),
        ];
        for (reply, wanted) in cases {
            let message = fault(reply);
            assert!(message.contains("codec zip at 9") && message.contains(wanted), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_is_none_or_says_nothing_is_named() {
        assert!(Rival::start("/no/such/program").err().unwrap().to_string().contains("/no/such/program"));
        let message = format!("{:#}", Rival::start("true").unwrap().fit(&rows(), None).unwrap_err());
        assert!(message.contains("rival true"), "{message}");
    }
}
