//! How large an output may become before it is encoded more coarsely, and how far that may go. Pure.

use crate::check::codec_loss_ppm;
use crate::{Cap, PlanStage};
use bps_types::policy::{CodecInfo, Table};

/// Times the bytes that were planned for. Tables hold means, and rows differ: within this nothing is out of order.
pub(crate) const FACTOR: u64 = 2;
/// Fewer bytes hold up no link, and are mostly heads of frames, which no rate makes smaller.
const LEAST: u64 = 1 << 10;

/// The cap of what goes into the stage at `index` of a plan, which its tables say takes `planned` bytes. None where its codec
/// has nothing coarser that the budget of the model has room for, or nothing is known of its size.
///
/// Codecs for activations list their rates from fine to coarse; those for inputs do not, and are left alone.
pub(crate) fn cap(
    codecs: &[CodecInfo],
    losses: &[Table],
    (model, budget_ppm): (u32, u32),
    stages: &[PlanStage],
    index: usize,
    planned: u64,
) -> Option<Cap> {
    let info = |id: u8| codecs.iter().find(|codec| codec.id == id);
    let lost = |stage: &PlanStage, rate: u8| {
        let codec = info(stage.codec).filter(|codec| !codec.lossless);
        codec.map_or(0, |codec| codec_loss_ppm(codec, losses, model, stage.from_cut, rate))
    };
    let stage = stages.get(index)?;
    let codec = info(stage.codec).filter(|codec| !codec.lossless && !codec.for_input)?;
    let others = stages.iter().enumerate().filter(|(at, _)| *at != index);
    let spent: u64 = others.map(|(_, stage)| lost(stage, stage.rate)).sum();
    let fits = |rate: &&u8| spent.saturating_add(lost(stage, **rate)) <= u64::from(budget_ppm);
    let coarsest = codec.rates.iter().filter(|rate| **rate > stage.rate).take_while(fits).last()?;
    (planned > 0).then(|| Cap { bytes: planned.saturating_mul(FACTOR).max(LEAST), coarsest: *coarsest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_types::policy::TableKind;
    use bps_types::{DeviceId, HostId};

    fn codec(id: u8, rates: &[u8], for_input: bool) -> CodecInfo {
        CodecInfo { id, name: format!("c{id}"), rates: rates.to_vec(), lossless: id == 0, for_input }
    }

    fn stage(from_cut: u32, codec: u8, rate: u8) -> PlanStage {
        PlanStage { device: DeviceId(0), host: HostId(1), from_cut, until_cut: from_cut + 1, codec, rate }
    }

    /// Losses of three rates at three cuts.
    fn losses(codec: u8) -> Table {
        let values = vec![10.0, 20.0, 30.0, 100.0, 200.0, 300.0, 1.0, 2.0, 5_000.0];
        let kind = TableKind::CodecLossPpm;
        Table { epoch: 1, model: 7, device: 0, codec, kind, measured: true, shape: vec![3, 3], values }
    }

    #[test]
    fn a_cap_goes_as_far_as_the_budget() {
        let codecs = [codec(0, &[], false), codec(6, &[50, 75, 90], true), codec(17, &[0, 2, 4], false)];
        let tables = [losses(17), losses(6)];
        let of =
            |budget, stages: &[PlanStage], index, planned| cap(&codecs, &tables, (7, budget), stages, index, planned);
        let two = [stage(0, 0, 0), stage(1, 17, 0)];
        let coarsest = |budget| of(budget, &two, 1, 50).map(|cap| cap.coarsest);
        assert_eq!([100, 199, 200, 299, 300].map(coarsest), [None, None, Some(2), Some(2), Some(4)]);
        assert_eq!(of(300, &two, 1, 5_000), Some(Cap { bytes: 10_000, coarsest: 4 }));
        assert_eq!(of(300, &two, 1, 50).map(|cap| cap.bytes), Some(1_024), "small ones are left alone");
        assert_eq!(of(300, &two, 1, 0), None, "nothing is known of its size");
        assert_eq!(of(300, &two, 0, 50), None, "raw has nothing coarser");
        assert_eq!(of(300, &[stage(1, 17, 4)], 0, 50), None, "it is the coarsest");
        assert_eq!(of(300, &[stage(0, 6, 50)], 0, 50), None, "a codec for inputs lists qualities");
        // What other stages cost is spent.
        let three = [stage(0, 17, 2), stage(1, 17, 0), stage(2, 17, 0)];
        assert_eq!(of(321, &three, 1, 1).map(|cap| cap.coarsest), Some(4));
        assert_eq!(of(320, &three, 1, 1).map(|cap| cap.coarsest), Some(2));
        assert_eq!(cap(&codecs, &[], (7, 300), &two, 1, 50), None, "without a table it would cost everything");
    }
}
