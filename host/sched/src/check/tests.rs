use super::*;
use bps_types::Nanos;
use bps_types::policy::{Device, DeviceInfo, DeviceKind, HostInfo, Link, Queue, Stage};

fn world() -> WorldInfo {
    let device = |id, host| DeviceInfo { id, host, name: format!("d{id}"), kind: DeviceKind::Cpu, memory_bytes: None };
    let codec = |id, rates: &[u8], lossless, for_input| CodecInfo {
        id,
        name: format!("c{id}"),
        rates: rates.to_vec(),
        lossless,
        for_input,
    };
    let model = ModelInfo {
        id: 7,
        name: "m".into(),
        cut_count: 4,
        input_bytes: 100,
        output_bytes: 10,
        batch_max: 8,
        slo: Nanos::ZERO,
        accuracy_budget_ppm: 5_000,
        priority: 0,
        devices: vec![1, 2, 4, 5],
    };
    WorldInfo {
        epoch: 1,
        hosts: vec![
            HostInfo { id: 0, name: "here".into(), is_self: true },
            HostInfo { id: 1, name: "there".into(), is_self: false },
            HostInfo { id: 2, name: "far".into(), is_self: false },
        ],
        devices: vec![device(1, 0), device(2, 0), device(3, 0), device(4, 1), device(5, 2)],
        models: vec![model],
        codecs: vec![codec(0, &[], true, false), codec(1, &[4, 8], false, false), codec(2, &[], false, true)],
    }
}

/// Queue 5 of model 7 holds requests 10..16 of one row each; 12 is local only, 13 lossless only.
fn snapshot() -> Snapshot {
    let device = |id, up, credits| Device {
        id,
        up,
        backlog: Nanos::ZERO,
        running: 0,
        credits,
        memory_free: (id == 2).then_some(300),
        slowdown: 1.0,
        age: Nanos::ZERO,
    };
    let link = |source, target, up| Link {
        source,
        target,
        up,
        bytes_per_second: 1e6,
        rtt: Nanos::from_millis(1),
        backlog_bytes: 0,
        age: Nanos::ZERO,
    };
    Snapshot {
        world_epoch: 1,
        queues: vec![Queue {
            id: 5,
            model: 7,
            waiting: 6,
            waiting_rows: 6,
            oldest_wait: Nanos(9),
            arrivals_per_second: 1.0,
            head_start: 0,
            head_count: 6,
        }],
        devices: (1..=5).map(|id| device(id, true, 2)).collect(),
        links: vec![link(0, 1, true), link(1, 0, true), link(1, 2, true), link(2, 0, false)],
        ids: (10..16).collect(),
        rows: vec![1; 6],
        waits: vec![9; 6],
        slacks: vec![i64::MAX; 6],
        priorities: vec![0; 6],
        attempts: vec![0; 6],
        constraints: vec![0, 0, constraint::LOCAL_ONLY, constraint::LOSSLESS_ONLY, 0, 0],
        ..Snapshot::default()
    }
}

fn stage(device: u32, until_cut: u32, codec: u8, rate: u8) -> Stage {
    Stage { device, until_cut, codec, rate }
}

fn dispatch(requests: Selection, stages: &[Stage]) -> Dispatch {
    Dispatch { queue: 5, requests, stages: stages.to_vec(), micro_batch: 0, tag: 3, why: 0 }
}

fn loss_table(ppm: f32) -> Table {
    Table {
        epoch: 1,
        model: 7,
        device: 0,
        codec: 1,
        kind: TableKind::CodecLossPpm,
        measured: true,
        shape: vec![4, 2],
        values: vec![ppm; 8],
    }
}

fn verdict(dispatch: &Dispatch, losses: &[Table]) -> String {
    let (world, snapshot) = (world(), snapshot());
    let mut ground = Ground::new(&world, &snapshot, standings(&snapshot), hops(&snapshot), losses);
    ground
        .check(dispatch)
        .map_or_else(|e| e.to_string(), |p| format!("ok {:?}", p.requests().iter().map(|r| r.0).collect::<Vec<_>>()))
}

#[test]
fn rows_are_judged() {
    use Selection::{Head, These};
    let whole = [stage(1, 3, 0, 0)];
    let cases: &[(&str, Dispatch)] = &[
        ("ok [10, 11]", dispatch(Head(2), &whole)),
        ("ok [15, 10]", dispatch(These(vec![15, 10]), &whole)),
        ("ok [10]", dispatch(Head(1), &[stage(1, 1, 0, 0), stage(2, 3, 0, 0)])),
        ("queue 6 does not exist or is empty", Dispatch { queue: 6, ..dispatch(Head(1), &whole) }),
        ("no requests selected", dispatch(Head(0), &whole)),
        ("no requests selected", dispatch(These(vec![]), &whole)),
        ("queue 5 has no 7 requests waiting", dispatch(Head(7), &whole)),
        ("queue 5 has no 4294967295 requests waiting", dispatch(Head(u32::MAX), &whole)),
        ("request 99 does not wait in queue 5", dispatch(These(vec![10, 99]), &whole)),
        ("request 10 is named twice", dispatch(These(vec![10, 10]), &whole)),
        ("0 stages; 1 to 8 are allowed", dispatch(Head(1), &[])),
        ("9 stages; 1 to 8 are allowed", dispatch(Head(1), &[whole[0]; 9])),
        ("device 9 does not exist", dispatch(Head(1), &[stage(9, 3, 0, 0)])),
        ("model 7 may not run on device 3", dispatch(Head(1), &[stage(3, 3, 0, 0)])),
        (
            "stage 1 ends at cut 1, which does not follow cut 1",
            dispatch(Head(1), &[stage(1, 1, 0, 0), stage(2, 1, 0, 0)]),
        ),
        ("stage 0 ends at cut 0, which does not follow cut 0", dispatch(Head(1), &[stage(1, 0, 0, 0)])),
        ("the last stage ends at cut 2; the model ends at cut 3", dispatch(Head(1), &[stage(1, 2, 0, 0)])),
        ("the last stage ends at cut 9; the model ends at cut 3", dispatch(Head(1), &[stage(1, 9, 0, 0)])),
        ("codec 7 does not exist", dispatch(Head(1), &[stage(1, 3, 7, 0)])),
        ("codec 1 does not offer rate 5", dispatch(Head(1), &[stage(1, 3, 1, 5)])),
        ("codec 0 does not offer rate 1", dispatch(Head(1), &[stage(1, 3, 0, 1)])),
        (
            "codec 2 is for a model's input, stage 1 takes an activation",
            dispatch(Head(1), &[stage(1, 1, 0, 0), stage(4, 3, 2, 0)]),
        ),
        ("request 12 must stay on this host", dispatch(Head(3), &[stage(1, 1, 0, 0), stage(4, 3, 0, 0)])),
        ("request 13 must not meet a lossy codec", dispatch(These(vec![13]), &[stage(1, 1, 0, 0), stage(4, 3, 1, 4)])),
        (
            "codecs would cost 1000000 ppm accuracy, the model allows 5000",
            dispatch(Head(1), &[stage(1, 1, 0, 0), stage(4, 3, 1, 4)]),
        ),
        ("ok [10]", dispatch(Head(1), &[stage(1, 1, 0, 0), stage(4, 3, 0, 0)])),
        ("there is no link up from host 0 to host 2", dispatch(Head(1), &[stage(5, 3, 0, 0)])),
        ("there is no link up from host 2 to host 0", dispatch(Head(1), &[stage(4, 1, 0, 0), stage(5, 3, 0, 0)])),
        (
            "stage 1 comes back to this host; a plan that has left it stays away",
            dispatch(Head(1), &[stage(4, 1, 0, 0), stage(1, 3, 0, 0)]),
        ),
        ("device 2 has 300 bytes free, the batch needs 330", dispatch(Head(3), &[stage(2, 3, 0, 0)])),
        ("device 1 has no credits left", dispatch(Head(1), &[stage(1, 1, 0, 0), stage(1, 2, 0, 0), stage(1, 3, 0, 0)])),
    ];
    for (expected, dispatch) in cases {
        assert_eq!(&verdict(dispatch, &[]), expected, "{dispatch:?}");
    }
}

#[test]
fn a_device_that_takes_whole_models_only_gets_no_part_of_one() {
    let (world, snapshot) = (world(), snapshot());
    let whole_only = [WholeOnly { model: ModelId(7), device: DeviceId(4) }];
    let refused = "device 4 takes model 7 whole or not at all: its host numbers the cuts differently";
    // (stages, whether they may run)
    let cases: [(&[Stage], bool); 5] = [
        (&[stage(4, 3, 0, 0)], true),
        (&[stage(4, 3, 2, 0)], true), // its input travels as an image
        (&[stage(1, 1, 0, 0), stage(4, 3, 0, 0)], false),
        (&[stage(4, 1, 0, 0), stage(4, 3, 0, 0)], false),
        (&[stage(1, 1, 0, 0), stage(2, 3, 0, 0)], true), // nor does it concern others
    ];
    for (stages, runs) in cases {
        let losses = [Table { codec: 2, shape: vec![4, 1], values: vec![0.0; 4], ..loss_table(0.0) }];
        let mut ground = Ground::new(&world, &snapshot, standings(&snapshot), hops(&snapshot), &losses);
        ground.whole_only = &whole_only;
        let verdict = ground.check(&dispatch(Selection::Head(1), stages)).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(verdict, if runs { Ok(()) } else { Err(refused.into()) }, "{stages:?}");
    }
}

#[test]
fn loss_tables_are_kept_to() {
    let lossy = dispatch(Selection::Head(1), &[stage(1, 1, 0, 0), stage(4, 3, 1, 8)]);
    assert_eq!(verdict(&lossy, &[loss_table(5_000.0)]), "ok [10]");
    assert_eq!(verdict(&lossy, &[loss_table(5_001.0)]), "codecs would cost 5001 ppm accuracy, the model allows 5000");
}

#[test]
fn rows_use_up_requests_and_credits() {
    let (world, snapshot) = (world(), snapshot());
    let mut ground = Ground::new(&world, &snapshot, standings(&snapshot), hops(&snapshot), &[]);
    let two = dispatch(Selection::Head(2), &[stage(1, 3, 0, 0)]);
    let ids = |p: Plan| p.requests().iter().map(|r| r.0).collect::<Vec<_>>();
    assert_eq!(ground.check(&two).map(ids), Ok(vec![10, 11]));
    assert_eq!(ground.check(&two).map(ids), Ok(vec![12, 13]), "a head counts what is left");
    assert_eq!(ground.check(&two), Err(InvalidRow::NoCredits(1)));
    let again = dispatch(Selection::These(vec![10]), &[stage(2, 3, 0, 0)]);
    assert_eq!(ground.check(&again), Err(InvalidRow::Twice(10)));
    assert_eq!(ground.check_shed(RequestId(11), true), Err(InvalidRow::Twice(11)));
    assert_eq!(ground.check_shed(RequestId(15), true), Ok(()));
    assert_eq!(
        ground.check(&dispatch(Selection::Head(2), &[stage(2, 3, 0, 0)])),
        Err(InvalidRow::TooFewWaiting { queue: 5, count: 2 })
    );
}

#[test]
fn batches_and_pieces_are_bounded() {
    let mut world = world();
    world.models[0].batch_max = 3;
    let snapshot = snapshot();
    let mut ground = Ground::new(&world, &snapshot, standings(&snapshot), hops(&snapshot), &[]);
    let four = dispatch(Selection::Head(4), &[stage(1, 3, 0, 0)]);
    assert_eq!(ground.check(&four), Err(InvalidRow::BatchTooLarge { rows: 4, max: 3 }));
    assert!(ground.check(&Dispatch { micro_batch: 2, ..four }).is_ok());
}
