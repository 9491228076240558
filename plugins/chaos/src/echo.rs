//! The mode `echo`: says back all that it was told, number by number, so that a test of the host can compare every field.
//! The snapshot comes back as the ids to shed, everything else as the state. Order: as in `wit/policy.wit`.

use bps_policy_sdk::{Decision, DecisionBuilder, Outcome, Snapshot, Table, WorldInfo};

pub(crate) fn decide(now: &Snapshot) -> Decision {
    let mut decision = DecisionBuilder::new();
    flatten(now).into_iter().for_each(|word| decision.shed(word));
    decision.finish()
}

fn flatten(now: &Snapshot) -> Vec<u64> {
    let mut words = vec![now.now, now.trigger as u64, now.world_epoch.into()];
    for queue in &now.queues {
        words.extend([queue.id, queue.model, queue.waiting, queue.waiting_rows].map(u64::from));
        words.extend([queue.oldest_wait, queue.arrivals_per_second.to_bits().into()]);
        words.extend([queue.head_start, queue.head_count].map(u64::from));
    }
    for device in &now.devices {
        words.extend([
            device.id.into(),
            device.up.into(),
            device.backlog,
            device.running.into(),
            device.credits.into(),
        ]);
        words.extend([device.memory_free.unwrap_or(u64::MAX), device.slowdown.to_bits().into(), device.age]);
    }
    for link in &now.links {
        words.extend([link.source, link.target, link.up.into()].map(u64::from));
        words.extend([link.bytes_per_second.to_bits().into(), link.rtt, link.backlog_bytes, link.age]);
    }
    for stage in &now.arrived {
        words.extend([stage.id, stage.model, stage.from_cut, stage.until_cut, stage.device].map(u64::from));
        words.extend([stage.waiting_rows.into(), stage.oldest_wait, stage.least_slack as u64]);
    }
    words.extend(&now.ids);
    words.extend(now.rows.iter().map(|word| u64::from(*word)));
    words.extend(&now.waits);
    words.extend(now.slacks.iter().map(|word| *word as u64));
    for bytes in [&now.priorities, &now.attempts, &now.constraints] {
        words.extend(bytes.iter().map(|word| u64::from(*word)));
    }
    words.extend(&now.flight_tags);
    words.extend(now.flight_stages.iter().map(|word| u64::from(*word)));
    words.extend(now.flight_devices.iter().map(|word| u64::from(*word)));
    words.extend(now.flight_rows.iter().map(|word| u64::from(*word)));
    words
}

/// `Debug` of the generated types has the field names of the interface, so text is enough for what is not hot.
pub(crate) fn world(now: &WorldInfo) -> String {
    format!("{now:?}")
}

pub(crate) fn table(now: &Table) -> String {
    format!("{now:?}")
}

pub(crate) fn outcomes(now: &[Outcome], dropped: u32) -> String {
    format!("{now:?} {dropped}")
}
