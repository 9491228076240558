//! Bodies: what a message is without its header's fields and its payload. Postcard; pinned by `tests/golden.rs`.

use crate::error::WireError;
use crate::files::{ListWanted, ModelDenied, ModelList, ModelPart, ModelWanted};
use crate::header::{Header, Kind};
use crate::message::{Advert, Answer, Denied, Execute, HostKey, Message, Progress, Route, StageReport, Standing};
use bps_types::{DataType, Nanos, Packed};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A tensor in a body; its bytes are the payload's next.
#[derive(Serialize, Deserialize)]
struct Piece {
    codec: u8,
    rate: u8,
    data_type: DataType,
    shape: Vec<u64>,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct PingBody {
    at: Nanos,
}

#[derive(Serialize, Deserialize)]
struct PongBody {
    asked: Nanos,
    at: Nanos,
}

#[derive(Serialize, Deserialize)]
struct ExecuteBody {
    origin: HostKey,
    model: [u8; 32],
    cut_list: [u8; 32],
    route: Vec<Route>,
    rows: u32,
    budget: Option<Nanos>,
    priority: u8,
    reports: Vec<StageReport>,
    tensors: Vec<Piece>,
}

#[derive(Serialize, Deserialize)]
struct AnswerBody {
    reports: Vec<StageReport>,
    outcome: Result<Vec<Piece>, Denied>,
}

#[derive(Serialize, Deserialize)]
struct PartBody {
    digest: [u8; 32],
    file: [u8; 32],
    offset: u64,
}

#[derive(Serialize, Deserialize)]
struct ByeBody {
    reason: String,
}

/// Appends the body to `out` and the payload's slices to `payload`.
pub(crate) fn write(message: &Message, out: Vec<u8>, payload: &mut Vec<Bytes>) -> Result<Vec<u8>, WireError> {
    let kind = kind_of(message);
    match message {
        Message::Advert(advert) => to(kind, advert, out),
        Message::Standing(standing) => to(kind, standing, out),
        Message::Ping { at, .. } => to(kind, &PingBody { at: *at }, out),
        Message::Pong { asked, at, .. } => to(kind, &PongBody { asked: *asked, at: *at }, out),
        Message::Progress(progress) => to(kind, progress, out),
        Message::Execute(e) => to(
            kind,
            &ExecuteBody {
                origin: e.origin,
                model: e.model,
                cut_list: e.cut_list,
                route: e.route.clone(),
                rows: e.rows,
                budget: e.budget,
                priority: e.priority,
                reports: e.reports.clone(),
                tensors: pieces(&e.tensors, payload),
            },
            out,
        ),
        Message::Answer(answer) => {
            let outcome = answer.outcome.as_ref().map(|tensors| pieces(tensors, payload)).map_err(Denied::clone);
            to(kind, &AnswerBody { reports: answer.reports.clone(), outcome }, out)
        }
        Message::Recall { .. } => Ok(out),
        Message::ListWanted(wanted) => to(kind, wanted, out),
        Message::ModelList(list) => to(kind, list, out),
        Message::ModelWanted(wanted) => to(kind, wanted, out),
        Message::ModelPart(part) => {
            payload.push(part.data.clone());
            to(kind, &PartBody { digest: part.digest, file: part.file, offset: part.offset }, out)
        }
        Message::ModelDenied(denied) => to(kind, denied, out),
        Message::Bye { reason } => to(kind, &ByeBody { reason: reason.clone() }, out),
    }
}

/// The message of a frame whose checksums fit.
pub(crate) fn read(header: &Header, body: &[u8], payload: Bytes) -> Result<Message, WireError> {
    Ok(match header.kind {
        Kind::Advert => Message::Advert(from::<Advert>(header, body)?),
        Kind::Standing => Message::Standing(from::<Standing>(header, body)?),
        Kind::Ping => Message::Ping { token: header.id, at: from::<PingBody>(header, body)?.at },
        Kind::Pong => {
            let PongBody { asked, at } = from(header, body)?;
            Message::Pong { token: header.id, asked, at }
        }
        Kind::Progress => Message::Progress(from::<Progress>(header, body)?),
        Kind::Execute => Message::Execute(execute(header, from(header, body)?, payload)?),
        Kind::Answer => {
            let AnswerBody { reports, outcome } = from(header, body)?;
            let outcome = match outcome {
                Ok(pieces) => Ok(tensors(pieces, payload)?),
                Err(denied) => {
                    tensors(Vec::new(), payload)?;
                    Err(denied)
                }
            };
            Message::Answer(Answer { dispatch: header.id, reports, outcome })
        }
        Kind::Recall => {
            empty(header, body)?;
            Message::Recall { dispatch: header.id }
        }
        Kind::ListWanted => Message::ListWanted(from::<ListWanted>(header, body)?),
        Kind::ModelList => Message::ModelList(from::<ModelList>(header, body)?),
        Kind::ModelWanted => Message::ModelWanted(from::<ModelWanted>(header, body)?),
        Kind::ModelPart => {
            let PartBody { digest, file, offset } = from(header, body)?;
            Message::ModelPart(ModelPart { digest, file, offset, data: payload })
        }
        Kind::ModelDenied => Message::ModelDenied(from::<ModelDenied>(header, body)?),
        Kind::Bye => Message::Bye { reason: from::<ByeBody>(header, body)?.reason },
    })
}

pub(crate) fn kind_of(message: &Message) -> Kind {
    match message {
        Message::Advert(_) => Kind::Advert,
        Message::Standing(_) => Kind::Standing,
        Message::Ping { .. } => Kind::Ping,
        Message::Pong { .. } => Kind::Pong,
        Message::Progress(_) => Kind::Progress,
        Message::Execute(_) => Kind::Execute,
        Message::Answer(_) => Kind::Answer,
        Message::Recall { .. } => Kind::Recall,
        Message::ListWanted(_) => Kind::ListWanted,
        Message::ModelList(_) => Kind::ModelList,
        Message::ModelWanted(_) => Kind::ModelWanted,
        Message::ModelPart(_) => Kind::ModelPart,
        Message::ModelDenied(_) => Kind::ModelDenied,
        Message::Bye { .. } => Kind::Bye,
    }
}

fn execute(header: &Header, body: ExecuteBody, payload: Bytes) -> Result<Execute, WireError> {
    if usize::from(header.stage) != body.reports.len() {
        return Err(WireError::Field { field: "execute.reports", what: "not one for each stage that is done" });
    }
    Ok(Execute {
        dispatch: header.id,
        origin: body.origin,
        model: body.model,
        cut_list: body.cut_list,
        route: body.route,
        rows: body.rows,
        budget: body.budget,
        priority: body.priority,
        trace: header.trace,
        reports: body.reports,
        tensors: tensors(body.tensors, payload)?,
    })
}

fn pieces(tensors: &[Packed], payload: &mut Vec<Bytes>) -> Vec<Piece> {
    payload.extend(tensors.iter().map(|t| t.data.clone()));
    let piece = |t: &Packed| Piece {
        codec: t.codec,
        rate: t.rate,
        data_type: t.data_type,
        shape: t.shape.iter().map(|&d| d as u64).collect(),
        bytes: t.data.len() as u64,
    };
    tensors.iter().map(piece).collect()
}

/// Deals the payload out to the tensors; together they use it up.
fn tensors(pieces: Vec<Piece>, mut payload: Bytes) -> Result<Vec<Packed>, WireError> {
    let declared = pieces.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.bytes));
    let mismatch = WireError::Pieces { declared, payload: payload.len() as u64 };
    if declared != payload.len() as u64 {
        return Err(mismatch);
    }
    let mut tensors = Vec::with_capacity(pieces.len());
    for piece in pieces {
        // The sum fits, so each part does.
        let bytes = usize::try_from(piece.bytes).map_err(|_| mismatch.clone())?;
        let extents: Result<Vec<usize>, _> = piece.shape.iter().map(|&d| usize::try_from(d)).collect();
        let shape = extents.map_err(|_| WireError::Field { field: "tensors.shape", what: "an extent is too large" })?;
        let Piece { codec, rate, data_type, .. } = piece;
        tensors.push(Packed { codec, rate, data_type, shape, data: payload.split_to(bytes) });
    }
    Ok(tensors)
}

fn to<T: Serialize>(kind: Kind, body: &T, out: Vec<u8>) -> Result<Vec<u8>, WireError> {
    postcard::to_extend(body, out).map_err(|source| WireError::Body { kind, source })
}

fn from<T: DeserializeOwned>(header: &Header, body: &[u8]) -> Result<T, WireError> {
    let kind = header.kind;
    let (value, rest) = postcard::take_from_bytes(body).map_err(|source| WireError::Body { kind, source })?;
    empty(header, rest)?;
    Ok(value)
}

fn empty(header: &Header, rest: &[u8]) -> Result<(), WireError> {
    if rest.is_empty() { Ok(()) } else { Err(WireError::Trailing { kind: header.kind, bytes: rest.len() }) }
}
