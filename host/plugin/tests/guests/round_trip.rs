//! Every field of every type survives the way into a guest and back.

use super::{CHAOS, CORPUS};
use bps_sched::Policy;
use bps_types::Nanos;
use bps_types::policy::{Arrived, Outcome, Snapshot};

/// The snapshot as the guest's mode `echo` says it back, in the order of the interface.
fn flatten(now: &Snapshot) -> Vec<u64> {
    let mut words = vec![now.now.0, now.trigger as u64, now.world_epoch.into()];
    for queue in &now.queues {
        words.extend([queue.id, queue.model, queue.waiting, queue.waiting_rows].map(u64::from));
        words.extend([queue.oldest_wait.0, queue.arrivals_per_second.to_bits().into()]);
        words.extend([queue.head_start, queue.head_count].map(u64::from));
    }
    for device in &now.devices {
        words.extend([device.id, device.up.into()].map(u64::from));
        words.extend([device.backlog.0, device.running.into(), device.credits.into()]);
        words.extend([device.memory_free.unwrap_or(u64::MAX), device.slowdown.to_bits().into(), device.age.0]);
    }
    for link in &now.links {
        words.extend([link.source, link.target, link.up.into()].map(u64::from));
        words.extend([link.bytes_per_second.to_bits().into(), link.rtt.0, link.backlog_bytes, link.age.0]);
    }
    for stage in &now.arrived {
        words.extend([stage.id, stage.model, stage.from_cut, stage.until_cut, stage.device].map(u64::from));
        words.extend([stage.waiting_rows.into(), stage.oldest_wait.0, stage.least_slack as u64]);
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

#[test]
fn snapshots() {
    let mut policy = CHAOS.instantiate(r#"{"mode":"echo"}"#, 1).expect("configured");
    let mut told = CORPUS.snapshots.clone();
    let (model, from_cut, until_cut, device) = (4, 5, 6, 7);
    let (id, waiting_rows, oldest_wait, least_slack) = (3, 8, Nanos(9), -10);
    told[1].arrived.push(Arrived { id, model, from_cut, until_cut, device, waiting_rows, oldest_wait, least_slack });
    for snapshot in told.iter().filter(|snapshot| snapshot.ids.len() < 512) {
        assert_eq!(policy.decide(snapshot).expect("echoed").shed, flatten(snapshot));
    }
}

#[test]
fn worlds_tables_and_outcomes() {
    let mut policy = CHAOS.instantiate(r#"{"mode":"echo"}"#, 1).expect("configured");
    let outcome = Outcome {
        tag: u64::MAX,
        generation: 2,
        model: 3,
        rows: 4,
        wait: Nanos(5),
        total: Nanos(6),
        bytes: 7,
        stage_nanos: vec![8, 9],
        stage_devices: vec![10],
        missed: 11,
        failed: 12,
    };
    let mut world = CORPUS.world.clone();
    world.codecs[0].rates = vec![3, 5];
    world.models[0].accuracy_budget_ppm = 17;
    policy.world_changed(&world).expect("told");
    policy.table_changed(&CORPUS.tables[0]).expect("told");
    policy.observe(std::slice::from_ref(&outcome), 13).expect("told");
    let said = policy.save().expect("saved").expect("a state");
    let expected = format!("{world:?}\n{:?}\n{:?} 13", CORPUS.tables[0], [outcome]);
    assert_eq!(plain(&String::from_utf8(said).expect("text")), plain(&expected));
}

/// `Debug` of both sides, without what is only theirs: the wrapper around times, the path of an enum's case, dashes.
fn plain(text: &str) -> String {
    let mut text = text.replace("DeviceKind::", "").replace("TableKind::", "").replace('_', "-");
    while let Some(at) = text.find("Nanos(") {
        let end = at + text[at..].find(')').expect("closed");
        text.replace_range(end..=end, "");
        text.replace_range(at..at + "Nanos(".len(), "");
    }
    text
}
