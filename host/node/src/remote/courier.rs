//! Encodes what leaves this host and hands it to the transport, away from the dispatcher's thread.
//!
//! The queue has no bound of its own: the scheduler hands a device of another host no more than its window.

use crate::models::ServedModel;
use crate::peers::Peers;
use bps_codec::{CodecError, SizeCap, encode_capped};
use bps_sched::{Failure, FailureKind};
use bps_transport::SendError;
use bps_types::{DataType, HostId, HostTensor, Packed};
use bps_wire::{Answer, Execute, Message};
use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::time::Duration;

/// Encoding is short next to sending; two threads keep one slow input from holding up the others.
const THREADS: usize = 2;

/// How often and after which pauses an answer is tried that finds its link full: for as long as its origin waits at most.
const FULL_TRIES: u32 = 200;
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Something to be sent.
pub(crate) enum Parcel {
    /// A stage, with its input.
    Stage {
        /// To whom.
        to: HostId,
        /// All but the tensors.
        execute: Box<Execute>,
        /// The input.
        load: Load,
        /// Of this model: codecs ask how it takes images, and what was calibrated.
        model: Arc<ServedModel>,
        /// What becomes of an input that is encoded here and turns out large.
        cap: Option<SizeCap>,
        /// Hears how it went.
        sent: Sent,
    },
    /// An answer; where it cannot be sent, nobody waits for it.
    Answer {
        /// To whom.
        to: HostId,
        /// What.
        answer: Box<Answer>,
    },
}

/// What becomes of a stage's sending: what went, or why it did not go.
pub(crate) type Sent = Box<dyn FnOnce(Result<Departed, Failure>) + Send>;

/// Bytes that went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Departed {
    /// Of the frame.
    pub(crate) sent: u64,
    /// Of the encoded values in it.
    pub(crate) values: u64,
    /// Their rate, where it is another than the plan's.
    pub(crate) coarser: Option<u8>,
}

/// The input of a stage.
pub(crate) enum Load {
    /// Encoded on the device already.
    Packed(Vec<Packed>),
    /// The values of a cut.
    Tensors(Vec<HostTensor>),
    /// Per request its inputs, whose rows are joined.
    Requests(Vec<Vec<HostTensor>>),
}

/// The handle; the threads end with the last one.
#[derive(Clone)]
pub(crate) struct Courier {
    parcels: Sender<Parcel>,
}

impl Courier {
    /// Starts the threads.
    pub(crate) fn start(peers: &Arc<Peers>) -> std::io::Result<Self> {
        let (parcels, receiver) = unbounded(); // see the module's text for what bounds it
        for index in 0..THREADS {
            let (receiver, peers) = (receiver.clone(), peers.clone());
            std::thread::Builder::new()
                .name(format!("bps-courier-{index}"))
                .spawn(move || deliver(&receiver, &peers))?;
        }
        Ok(Self { parcels })
    }

    pub(crate) fn send(&self, parcel: Parcel) {
        // The threads live as long as this handle.
        let _ = self.parcels.send(parcel);
    }
}

fn deliver(parcels: &Receiver<Parcel>, peers: &Peers) {
    for parcel in parcels {
        match parcel {
            Parcel::Answer { to, answer } => answer_patiently(peers, to, *answer),
            Parcel::Stage { to, mut execute, load, model, cap, sent } => {
                let first = execute.route.first();
                let stage = first.map_or((0, 0), |r| (r.codec, r.rate));
                let cut = first.map_or(0, |r| r.from_cut as usize);
                let packed = match load {
                    Load::Packed(packed) => Ok(packed),
                    Load::Tensors(tensors) => encode(&tensors, stage, cap, &model, cut),
                    Load::Requests(requests) => {
                        join(&requests).map_err(failed).and_then(|inputs| encode(&inputs, stage, cap, &model, cut))
                    }
                };
                let result = packed.and_then(|tensors| {
                    let values = tensors.iter().map(|packed| packed.data.len() as u64).sum();
                    let as_planned = |packed: &&Packed| (packed.codec, packed.rate) != stage;
                    let coarser = tensors.iter().find(as_planned).map(|packed| packed.rate);
                    execute.tensors = tensors;
                    let sent = peers.send(to, Message::Execute(*execute)).map_err(|e| unsent(&e))?;
                    Ok(Departed { sent, values, coarser })
                });
                sent(result);
            }
        }
    }
}

/// An answer that is refused because the link is full is tried again: what it stands for has been computed, and without it
/// the origin waits until it gives up. Where the link is down, the origin knows.
fn answer_patiently(peers: &Peers, to: HostId, answer: Answer) {
    for _ in 0..FULL_TRIES {
        match peers.send(to, Message::Answer(answer.clone())) {
            Err(SendError::Full { .. }) => std::thread::sleep(FULL_PAUSE),
            _ => return,
        }
    }
    tracing::warn!(%to, dispatch = answer.dispatch, "an answer found no room on the link and is dropped");
}

fn unsent(error: &SendError) -> Failure {
    let kind = match error {
        SendError::Down => FailureKind::Unreachable,
        SendError::Full { .. } => FailureKind::Refused,
        SendError::TooLarge { .. } | SendError::Unfit(_) => FailureKind::Execution,
    };
    Failure { kind, message: error.to_string() }
}

/// Encodes what goes into a stage of the model that begins at the cut.
fn encode(
    tensors: &[HostTensor],
    (codec, rate): (u8, u8),
    cap: Option<SizeCap>,
    model: &ServedModel,
    cut: usize,
) -> Result<Vec<Packed>, Failure> {
    let takes = |data_type| bps_codec::spec(codec).is_some_and(|s| s.takes(data_type));
    // Clients send images as bytes or as the network takes them, and codecs are for one of both.
    let image = |(index, tensor): (usize, &HostTensor)| {
        let wrong = !takes(tensor.data_type());
        let pixels = model.pixels.as_ref().filter(|p| wrong && cut == 0 && p.input == index);
        match (pixels, tensor.data_type()) {
            (Some(p), DataType::Fp32) => bps_codec::denormalize_u8(tensor, p.channels, &p.mean, &p.scale),
            (Some(p), DataType::Uint8) => bps_codec::normalized(tensor, &p.mean, &p.scale),
            _ => Ok(tensor.clone()),
        }
    };
    let at_rate = |tensors: &[HostTensor], rate| {
        let one = |(index, tensor)| bps_codec::encode_with(codec, rate, tensor, model.calibrated(cut, index));
        tensors.iter().enumerate().map(one).collect::<Result<Vec<Packed>, CodecError>>()
    };
    let tensors = tensors.iter().enumerate().map(image).collect::<Result<Vec<_>, _>>();
    let packed = tensors.and_then(|tensors| encode_capped(codec, rate, cap, |rate| at_rate(&tensors, rate)));
    packed.map_err(|e| failed(e.to_string()))
}

fn failed(message: String) -> Failure {
    Failure { kind: FailureKind::Execution, message }
}

/// The rows of all requests one after another, per input. They were queued together because type and extents agree.
fn join(requests: &[Vec<HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let Some(first) = requests.first() else { return Err("a stage without requests".into()) };
    if requests.len() == 1 {
        return Ok(first.clone());
    }
    let input = |index: usize| {
        let parts = requests.iter().map(|r| r.get(index)).collect::<Option<Vec<_>>>();
        let parts = parts.ok_or_else(|| format!("a request without input {index}"))?;
        let mut shape = first[index].shape().to_vec();
        let rows = shape.first_mut().ok_or_else(|| format!("input {index} has no rows to join"))?;
        *rows = parts.iter().map(|p| p.rows()).sum();
        let mut data = BytesMut::with_capacity(parts.iter().map(|p| p.data().len()).sum());
        parts.iter().for_each(|p| data.extend_from_slice(p.data()));
        HostTensor::new(first[index].data_type(), shape, data.freeze()).map_err(|e| e.to_string())
    };
    (0..first.len()).map(input).collect()
}
