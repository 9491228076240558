//! What a message may hold. Checked on both sides: the sender learns of its own mistake, the receiver trusts nobody.

use crate::error::WireError;
use crate::files;
use crate::header::Kind;
use crate::message::{Advert, AdvertModel, AdvertTable, Answer, Execute, Message, Standing};
use bps_types::Packed;

/// Stages of a plan that travels.
pub const ROUTE_STAGES_MAX: usize = 8;
/// Devices of a host.
pub const DEVICES_MAX: usize = 64;
/// Models of a host.
pub const MODELS_MAX: usize = 256;
/// Peers, and links, that a host tells of.
pub const PEERS_MAX: usize = 256;
/// Tensors of one frame: the values of a cut, or a model's outputs.
pub const TENSORS_MAX: usize = 64;
/// Extents of a tensor.
pub const DIMENSIONS_MAX: usize = 8;
/// Rows of one dispatch.
pub const ROWS_MAX: u32 = 65_536;
/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a denial's text.
pub const DENIED_BYTES_MAX: usize = 1_000;
/// Bytes of the text of a [`Message::Bye`].
pub const REASON_BYTES_MAX: usize = 200;
/// Files of a model.
pub const FILES_MAX: usize = 1_024;
/// Bytes of the name of one.
pub const FILE_NAME_BYTES_MAX: usize = 128;
/// Bytes of a `model.toml`.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Elements of a tensor, extents of zero counted as one; a decoder computes with them.
const ELEMENTS_MAX: u64 = 1 << 32;
/// Codecs of a host: as many as there are numbers.
const CODECS_MAX: usize = 256;
/// Tables of one model: six kinds, for each device and some codecs.
const TABLES_MAX: usize = 1_024;
/// Extents of a table.
const TABLE_DIMENSIONS_MAX: usize = 4;
/// Values of one table.
const TABLE_VALUES_MAX: usize = 65_536;

/// What one side of a connection takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame, header included.
    pub frame_bytes_max: u64,
}

impl Limits {
    /// Where `usize` is small, a frame must still fit in one allocation.
    pub(crate) fn addressable_max(&self) -> u64 {
        isize::MAX as u64
    }
}

/// Largest body of a kind. Costs of many models make an advert long, many files a list; everything else is small.
pub(crate) fn body_bytes_max(kind: Kind) -> u64 {
    match kind {
        Kind::Advert => 4 << 20,
        // Beside its name a file takes 44 bytes at most.
        Kind::ModelList => (MANIFEST_BYTES_MAX + FILES_MAX * (FILE_NAME_BYTES_MAX + 44) + 1_024) as u64,
        _ => 32 << 10,
    }
}

/// Whether a message keeps the bounds.
pub(crate) fn check(message: &Message) -> Result<(), WireError> {
    match message {
        Message::Advert(advert) => check_advert(advert),
        Message::Standing(standing) => check_standing(standing),
        Message::Execute(execute) => check_execute(execute),
        Message::Answer(answer) => check_answer(answer),
        Message::ModelList(list) => files::check_list(list),
        Message::ModelWanted(wanted) => files::check_wanted(wanted),
        Message::ModelPart(part) => files::check_part(part),
        Message::ModelDenied(denied) => files::check_denied(denied),
        Message::Bye { reason } => most("bye.reason", reason.len(), REASON_BYTES_MAX),
        Message::Ping { .. }
        | Message::Pong { .. }
        | Message::Progress(_)
        | Message::Recall { .. }
        | Message::ListWanted(_) => Ok(()),
    }
}

fn check_advert(advert: &Advert) -> Result<(), WireError> {
    most("advert.devices", advert.devices.len(), DEVICES_MAX)?;
    most("advert.models", advert.models.len(), MODELS_MAX)?;
    most("advert.codecs", advert.codecs.len(), CODECS_MAX)?;
    most("advert.peers", advert.peers.len(), PEERS_MAX)?;
    advert.devices.iter().try_for_each(|d| most("advert.devices.name", d.name.len(), NAME_BYTES_MAX))?;
    advert.codecs.iter().try_for_each(|c| most("advert.codecs.name", c.name.len(), NAME_BYTES_MAX))?;
    advert.models.iter().try_for_each(check_model)
}

fn check_model(model: &AdvertModel) -> Result<(), WireError> {
    most("advert.models.name", model.name.len(), NAME_BYTES_MAX)?;
    most("advert.models.devices", model.devices.len(), DEVICES_MAX)?;
    most("advert.models.tables", model.tables.len(), TABLES_MAX)?;
    model.tables.iter().try_for_each(check_table)
}

fn check_table(table: &AdvertTable) -> Result<(), WireError> {
    most("advert.models.tables.shape", table.shape.len(), TABLE_DIMENSIONS_MAX)?;
    most("advert.models.tables.values", table.values.len(), TABLE_VALUES_MAX)?;
    let count = table.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::from(d)));
    let fits = count == Some(table.values.len() as u64);
    field(fits, "advert.models.tables.values", "not as many as the shape says")?;
    let costs = table.values.iter().all(|v| v.is_finite() && *v >= 0.0);
    field(costs, "advert.models.tables.values", "a cost is negative or not a number")
}

fn check_standing(standing: &Standing) -> Result<(), WireError> {
    most("standing.devices", standing.devices.len(), DEVICES_MAX)?;
    most("standing.links", standing.links.len(), PEERS_MAX)?;
    let speeds = standing.links.iter().all(|l| l.bytes_per_second.is_finite() && l.bytes_per_second >= 0.0);
    field(speeds, "standing.links.bytes_per_second", "a speed is negative or not a number")
}

fn check_execute(execute: &Execute) -> Result<(), WireError> {
    field(!execute.route.is_empty(), "execute.route", "no stage is left")?;
    most("execute.route", execute.route.len(), ROUTE_STAGES_MAX)?;
    most("execute.reports", execute.reports.len(), ROUTE_STAGES_MAX)?;
    field(execute.rows > 0, "execute.rows", "no rows")?;
    most("execute.rows", execute.rows as usize, ROWS_MAX as usize)?;
    let forward = execute.route.iter().all(|r| r.from_cut < r.until_cut);
    field(forward, "execute.route", "a stage ends before it begins")?;
    let joined = execute.route.windows(2).all(|pair| pair[0].until_cut == pair[1].from_cut);
    field(joined, "execute.route", "a stage does not begin where the one before ends")?;
    field(!execute.tensors.is_empty(), "execute.tensors", "no tensor")?;
    check_tensors("execute.tensors", &execute.tensors)
}

fn check_answer(answer: &Answer) -> Result<(), WireError> {
    most("answer.reports", answer.reports.len(), ROUTE_STAGES_MAX)?;
    match &answer.outcome {
        Ok(tensors) => check_tensors("answer.tensors", tensors),
        Err(denied) => most("answer.denied.message", denied.message.len(), DENIED_BYTES_MAX),
    }
}

fn check_tensors(name: &'static str, tensors: &[Packed]) -> Result<(), WireError> {
    most(name, tensors.len(), TENSORS_MAX)?;
    for tensor in tensors {
        most(name, tensor.shape.len(), DIMENSIONS_MAX)?;
        let count = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul((d as u64).max(1)));
        field(count.is_some_and(|n| n <= ELEMENTS_MAX), name, "a shape has too many elements")?;
    }
    Ok(())
}

pub(crate) fn most(field: &'static str, value: usize, max: usize) -> Result<(), WireError> {
    if value <= max { Ok(()) } else { Err(WireError::TooMany { field, value: value as u64, max: max as u64 }) }
}

pub(crate) fn field(holds: bool, field: &'static str, what: &'static str) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::Field { field, what }) }
}
