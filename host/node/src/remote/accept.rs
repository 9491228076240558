//! Whether a stage that came can run here: all that is checked before it waits, but for what only the scheduler knows.

use super::denied;
use crate::models::ServedModel;
use crate::peers::Roster;
use bps_graph::Graph;
use bps_sched::PlanStage;
use bps_types::HostId;
use bps_wire::{Denied, DeniedKind, Execute, HostKey, OUTPUT_CUT, Route};

/// Whose session brought a stage, and who is answered.
pub(super) fn sender(roster: &Roster, peer: HostKey, execute: &Execute) -> Result<(HostId, HostId), Denied> {
    let forbidden = |text: &str| denied(DeniedKind::Forbidden, text);
    let host = roster.id_of(&peer).ok_or_else(|| forbidden("unknown host"))?;
    if !roster.rights(&peer).is_some_and(|(rights, _)| rights.execute) {
        return Err(forbidden("this host was not given the right to execute here"));
    }
    let origin = roster.id_of(&execute.origin).ok_or_else(|| forbidden("the origin is not paired with this host"))?;
    Ok((host, origin))
}

/// What is left of its plan in this host's numbers, where `graph` is its model and has this list of cuts.
pub(super) fn stages(
    roster: &Roster,
    graph: &Graph,
    cut_list: &[u8; 32],
    execute: &Execute,
) -> Result<Vec<PlanStage>, Denied> {
    let mismatch = |text: &str| denied(DeniedKind::Mismatch, text);
    if execute.cut_list != *cut_list && !is_whole(&execute.route) {
        return Err(mismatch(
            "cut lists differ: this host takes the whole model, from input to output, and no part of it",
        ));
    }
    let last_cut = graph.cuts.len().saturating_sub(1) as u32;
    let stages = execute.route.iter().map(|route| plan_stage(roster, route, last_cut)).collect::<Option<Vec<_>>>();
    let stages = stages.ok_or_else(|| mismatch("the plan names a host or device that is unknown here"))?;
    let first = stages.first().ok_or_else(|| mismatch("a plan without stages"))?;
    let values = match (first.from_cut, graph.cuts.get(first.from_cut as usize)) {
        (0, _) => graph.inputs.len(),
        (_, Some(cut)) => cut.values.len(),
        (_, None) => return Err(mismatch("the plan enters at a cut that does not exist")),
    };
    if execute.tensors.len() != values {
        return Err(mismatch("another number of tensors than cross this cut"));
    }
    let rows = execute.rows as usize;
    if graph.batchable && execute.tensors.iter().any(|t| t.rows() != rows) {
        return Err(mismatch("tensors with another number of rows than the stage has"));
    }
    if let Some(unknown) = execute.tensors.iter().find(|t| bps_codec::spec(t.codec).is_none()) {
        return Err(mismatch(&format!("codec {} is unknown here", unknown.codec)));
    }
    Ok(stages)
}

/// Whether its activations fit: what another host takes upon itself this one need not have room for.
pub(super) fn memory(model: &ServedModel, stages: &[PlanStage], execute: &Execute) -> Result<(), Denied> {
    let mismatch = |text: &str| denied(DeniedKind::Mismatch, text);
    if model.graph.batchable && execute.rows > model.batch_max {
        return Err(mismatch(&format!("this host takes at most {} rows of this model together", model.batch_max)));
    }
    if stages.first().is_none_or(|stage| stage.from_cut != 0) {
        // Behind the input extents are known only where none is open.
        return Ok(());
    }
    let inputs = execute.tensors.iter().map(|tensor| (tensor.data_type, &tensor.shape[..]));
    model.check_inputs(inputs, execute.rows).map_err(|message| mismatch(&message))
}

/// Whether a plan means the same however cuts are numbered.
fn is_whole(route: &[Route]) -> bool {
    matches!(route, [only] if (only.from_cut, only.until_cut) == (0, OUTPUT_CUT))
}

fn plan_stage(roster: &Roster, route: &Route, last_cut: u32) -> Option<PlanStage> {
    let host = roster.id_of(&route.host)?;
    let device = roster.device_of(&route.host, route.device)?;
    let Route { from_cut, until_cut, codec, rate, .. } = *route;
    let until_cut = if until_cut == OUTPUT_CUT { last_cut } else { until_cut };
    Some(PlanStage { device, host, from_cut, until_cut, codec, rate })
}

#[cfg(test)]
mod tests;
