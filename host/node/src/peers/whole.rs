//! What another host's tables say of a model whose cuts it numbers differently: what the whole takes, and nothing of parts.

use super::advert::{self, Ids};
use crate::codecs;
use bps_types::policy::{CodecInfo, TABLE_BATCHES, Table, TableKind, bound};
use bps_wire::AdvertTable;

/// Nanoseconds a row, a quarter of an hour: more than anybody would pay, and little enough to reckon with.
const NOBODY_PAYS: f32 = 1e12;

/// The tables of one device under this host's numbers; none without sound stage times.
///
/// Stage times are 0 up to the output: wherever a tail begins, it costs what the whole model does. And what crosses a cut
/// inside the model can neither be encoded nor decoded there, which is told as a price that nobody pays. So a policy that
/// goes by the tables proposes no split; one that does all the same is refused by the scheduler.
pub(super) fn tables(said: &[&AdvertTable], cut_count: u32, ids: Ids) -> Vec<Table> {
    let Some(stages) = said.iter().find_map(|table| stage_nanos(table, cut_count, ids)) else { return vec![] };
    let mut tables = vec![stages];
    for codec in codecs::all() {
        for kind in [TableKind::EncodeNanos, TableKind::DecodeNanos] {
            tables.push(coding_nanos(said, codec, kind, cut_count, ids));
        }
    }
    tables.retain(|table| table.values.len() * 4 <= bound::TABLE_BYTES);
    tables
}

fn stage_nanos(said: &AdvertTable, cut_count: u32, ids: Ids) -> Option<Table> {
    let batches = TABLE_BATCHES.len() as u32;
    let their_cuts = said.shape.get(1).copied().filter(|_| said.kind == TableKind::StageNanos)?;
    if their_cuts == 0 || !advert::is_sound(said, &[batches, their_cuts]) {
        return None;
    }
    let parts = cut_count.saturating_sub(1) as usize;
    let row = |row: &[f32]| std::iter::repeat_n(0.0, parts).chain(row.last().copied()).collect::<Vec<f32>>();
    Some(Table {
        epoch: ids.epoch,
        model: ids.model,
        device: ids.device,
        codec: 0,
        kind: TableKind::StageNanos,
        measured: said.measured,
        shape: vec![batches, cut_count],
        values: said.values.chunks(their_cuts as usize).flat_map(row).collect(),
    })
}

/// At the input as it was told, else unknown; the output leaves as it is.
fn coding_nanos(said: &[&AdvertTable], codec: &CodecInfo, kind: TableKind, cut_count: u32, ids: Ids) -> Table {
    let rates = codec.rates.len().max(1);
    let is_it = |table: &&&AdvertTable| {
        let their_cuts = table.shape.first().copied().unwrap_or(0);
        let named = (table.codec, table.kind) == (codec.id, kind);
        named && their_cuts > 0 && advert::is_sound(table, &[their_cuts, rates as u32])
    };
    let told = said.iter().find(is_it);
    let last = cut_count.saturating_sub(1) as usize;
    let nanos = |cut: usize, rate: usize| match told {
        Some(table) if cut == 0 => table.values[rate],
        _ if cut == 0 || cut == last => 0.0,
        _ => NOBODY_PAYS,
    };
    Table {
        epoch: ids.epoch,
        model: ids.model,
        device: ids.device,
        codec: codec.id,
        kind,
        measured: told.is_some_and(|table| table.measured),
        shape: vec![cut_count, rates as u32],
        values: (0..=last).flat_map(|cut| (0..rates).map(move |rate| nanos(cut, rate))).collect(),
    }
}
