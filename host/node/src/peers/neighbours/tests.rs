use super::super::testing::{CUTS, advert, at, come, key, local, model, paired, roster, stage_table};
use super::*;
use bps_transport::Carrier;
use bps_types::HostId;
use bps_types::policy::{DeviceKind, TABLE_BATCHES, Table};
use bps_wire::{AdvertCodec, AdvertTable};

fn world(roster: &Roster, placement: &Placement, epoch: u32, seconds: u64) -> Neighbours {
    roster.neighbours(&[local(placement)], 2, epoch, at(seconds))
}

#[test]
fn a_peer_becomes_host_devices_windows_and_tables() {
    let roster = roster();
    come(&roster, 1, advert(1), at(0));
    let told = world(&roster, &Placement::default(), 4, 1);
    assert_eq!(told.hosts, [HostInfo { id: 1, name: "host1".into(), is_self: false }]);
    let devices: Vec<_> = told.devices.iter().map(|d| (d.id, d.host, d.kind)).collect();
    assert_eq!(devices, [(2, 1, DeviceKind::Cpu), (3, 1, DeviceKind::Gpu)]);
    let windows: Vec<_> = told.windows.iter().map(|w| (w.device, w.dispatches)).collect();
    assert_eq!(windows, [(DeviceId(2), 3), (DeviceId(3), 3)]);
    assert_eq!(told.guests, [Guest { host: HostId(1), window: 4, bytes_max: 1 << 20 }]);
    assert_eq!(told.devices_of[&9], [2, 3]);
    assert_eq!(roster.peer(&key(1)).unwrap().shares, ["net"]);
    let tables: Vec<_> = told.tables.iter().map(|t| (t.epoch, t.model, t.device, t.kind)).collect();
    assert_eq!(tables, [(4, 9, 2, TableKind::StageNanos), (4, 9, 3, TableKind::StageNanos)]);
    assert_eq!((roster.route_of(DeviceId(3)), roster.device_of(&key(1), 5)), (Some((key(1), 5)), Some(DeviceId(3))));
}

#[test]
fn tables_are_told_once_until_they_change() {
    let roster = roster();
    come(&roster, 1, advert(1), at(0));
    let placement = Placement::default();
    assert_eq!(world(&roster, &placement, 1, 1).tables.len(), 2);
    assert_eq!(world(&roster, &placement, 2, 1).tables.len(), 0);
    roster.take_advert(&key(1), advert(2)).unwrap();
    assert_eq!(world(&roster, &placement, 3, 1).tables.len(), 0, "the same, said again");
    let mut other = advert(3);
    other.models[0].tables[1].values[4] = 77.0;
    roster.take_advert(&key(1), other).unwrap();
    let told = world(&roster, &placement, 4, 1).tables;
    let devices: Vec<u32> = told.iter().map(|t| t.device).collect();
    assert_eq!(devices, [3], "the other one's may have been corrected here");
}

#[test]
fn placement_reaches_to_other_hosts() {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let none: Vec<u32> = vec![];
    let cases = [
        (Placement { local_only: true, ..Placement::default() }, none.clone()),
        (Placement { deny: words(&["gpu"]), ..Placement::default() }, vec![2]),
        (Placement { allow: words(&["gpu"]), ..Placement::default() }, vec![3]),
        (Placement { allow: words(&["host1/cpu"]), ..Placement::default() }, vec![2]),
        (Placement { deny: words(&["host1/gpu:0", "cpu"]), ..Placement::default() }, none.clone()),
        (Placement { deny: words(&["host1/*"]), ..Placement::default() }, none.clone()),
        (Placement { allow: words(&["*/gpu:*"]), ..Placement::default() }, vec![3]),
        (Placement { deny: words(&["*"]), ..Placement::default() }, none),
        (Placement { deny: words(&["gpu:0"]), ..Placement::default() }, vec![2, 3]), // that is this host's
    ];
    for (placement, expected) in cases {
        let roster = roster();
        come(&roster, 1, advert(1), at(0));
        let told = world(&roster, &placement, 1, 1);
        assert_eq!(told.devices_of.get(&9).cloned().unwrap_or_default(), expected, "{placement:?}");
    }
}

#[test]
fn a_model_that_is_not_the_same_there_is_not_sent_there() {
    let changes: [fn(&mut Advert); 5] = [
        |a| a.models[0].digest = [1; 32],
        |a| a.models[0].batch_max = 31,
        |a| a.window = 0,
        |a| a.models[0].tables.clear(),
        |a| a.models[0].devices.clear(),
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let roster = roster();
        let mut said = advert(1);
        change(&mut said);
        come(&roster, 1, said, at(0));
        let told = world(&roster, &Placement::default(), 1, 1);
        assert_eq!((told.devices_of.len(), told.tables.len()), (0, 0), "case {case}");
        assert!(roster.peer(&key(1)).unwrap().shares.is_empty(), "case {case}");
        assert_eq!(told.devices.len(), 2, "the devices are there all the same");
    }
}

/// The CPU's tables have four cuts there; of codec 2 it takes 5 ns to decode a row of the input.
fn numbered_differently() -> Advert {
    let mut said = advert(1);
    let model = &mut said.models[0];
    model.cut_list = [1; 32];
    let nanos = TABLE_BATCHES.iter().flat_map(|rows| [0.0, 1.0, 2.0, *rows as f32 * 10.0]).collect();
    model.tables[0] = AdvertTable { shape: vec![6, 4], values: nanos, ..stage_table(0) };
    let kind = TableKind::DecodeNanos;
    let decode = AdvertTable { codec: 2, kind, shape: vec![4, 1], values: vec![5.0, 6.0, 7.0, 8.0], ..stage_table(0) };
    model.tables.push(decode);
    said
}

#[test]
fn a_model_whose_cuts_are_numbered_differently_there_is_sent_whole() {
    let roster = roster();
    come(&roster, 1, numbered_differently(), at(0));
    let told = world(&roster, &Placement::default(), 1, 1);
    assert_eq!(told.devices_of[&9], [2, 3]);
    let whole_only = [2, 3].map(|device| WholeOnly { model: ModelId(9), device: DeviceId(device) });
    assert_eq!(told.whole_only, whole_only);
    assert_eq!(roster.peer(&key(1)).unwrap().shares, ["net"]);

    let of = |codec, kind| {
        let is_it = |t: &&Table| (t.device, t.codec, t.kind) == (2, codec, kind);
        told.tables.iter().find(is_it).expect("it is told")
    };
    let stages = of(0, TableKind::StageNanos);
    assert_eq!(stages.shape, [6, CUTS]);
    let expected: Vec<f32> = TABLE_BATCHES.iter().flat_map(|rows| [0.0, 0.0, *rows as f32 * 10.0]).collect();
    assert_eq!(stages.values, expected, "a tail costs the whole model wherever it begins");
    for codec in crate::codecs::all() {
        let decode = of(codec.id, TableKind::DecodeNanos);
        let rates = codec.rates.len().max(1);
        assert_eq!(decode.shape, [CUTS, rates as u32], "{codec:?}");
        let at_input = if codec.id == 2 { 5.0 } else { 0.0 };
        assert!(decode.values[..rates].iter().all(|v| *v == at_input), "{codec:?}: {decode:?}");
        assert!(decode.values[rates..2 * rates].iter().all(|v| *v >= 1e12), "{codec:?}: {decode:?}");
    }
}

#[test]
fn of_a_model_whose_cuts_are_numbered_differently_bad_tables_count_as_none() {
    let changes: [fn(&mut AdvertTable); 5] = [
        |t| (t.shape, t.values) = (vec![6, 0], vec![]),
        |t| t.shape = vec![24],
        |t| t.shape = vec![6, 5],
        |t| t.values[3] = f32::INFINITY,
        |t| (t.shape, t.values) = (vec![5, 4], vec![0.0; 20]),
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let roster = roster();
        let mut said = numbered_differently();
        change(&mut said.models[0].tables[0]);
        come(&roster, 1, said, at(0));
        let told = world(&roster, &Placement::default(), 1, 1);
        assert_eq!(told.devices_of[&9], [3], "case {case}");
        assert!(told.tables.iter().all(|t| t.device == 3), "case {case}");
    }
}

#[test]
fn tables_are_told_again_when_a_host_numbers_the_cuts_as_this_one_does() {
    let roster = roster();
    come(&roster, 1, numbered_differently(), at(0));
    world(&roster, &Placement::default(), 1, 1);
    roster.take_advert(&key(1), advert(2)).unwrap();
    let told = world(&roster, &Placement::default(), 2, 1);
    assert_eq!((told.whole_only.len(), told.tables.len()), (0, 2));
}

#[test]
fn tables_that_do_not_fit_are_left_out_with_their_device() {
    let cells = 18;
    let bad: [AdvertTable; 5] = [
        AdvertTable { shape: vec![6, 4], ..stage_table(5) },
        AdvertTable { values: vec![0.0; cells - 1], ..stage_table(5) },
        AdvertTable { values: vec![f32::NAN; cells], ..stage_table(5) },
        AdvertTable { values: vec![-1.0; cells], ..stage_table(5) },
        AdvertTable { kind: TableKind::CutBytes, shape: vec![3], values: vec![0.0; 3], ..stage_table(5) },
    ];
    for table in bad {
        let roster = roster();
        let mut said = advert(1);
        said.models[0].tables[1] = table.clone();
        come(&roster, 1, said, at(0));
        let told = world(&roster, &Placement::default(), 1, 1);
        assert_eq!(told.devices_of[&9], [2], "{table:?}");
    }
    let coding = |codec, rates: u32| AdvertTable {
        codec,
        kind: TableKind::DecodeNanos,
        shape: vec![3, rates],
        values: vec![1.0; 3 * rates as usize],
        ..stage_table(5)
    };
    for (table, taken) in [(coding(2, 1), 3), (coding(6, 4), 3), (coding(6, 1), 2), (coding(99, 1), 2)] {
        let roster = roster();
        let mut said = advert(1);
        said.models[0].tables.push(table.clone());
        come(&roster, 1, said, at(0));
        assert_eq!(world(&roster, &Placement::default(), 1, 1).tables.len(), taken, "{table:?}");
    }
}

#[test]
fn who_goes_stays_in_the_world_for_a_minute() {
    let roster = roster();
    come(&roster, 1, advert(1), at(0));
    let placement = Placement::default();
    assert!(roster.take_dirty(at(0)));
    world(&roster, &placement, 1, 0);
    roster.went_down(&key(1), "gone".into(), at(10));
    assert!(!roster.take_dirty(at(60)), "nothing flaps");
    let away = world(&roster, &placement, 2, 60);
    assert_eq!((away.devices.len(), away.devices_of[&9].len(), away.guests.len()), (2, 2, 0));
    assert!(roster.take_dirty(at(70)));
    assert_eq!(world(&roster, &placement, 3, 70), Neighbours::default());
    come(&roster, 1, advert(1), at(100));
    let back = world(&roster, &placement, 4, 100);
    assert_eq!(back.devices.iter().map(|d| d.id).collect::<Vec<_>>(), [2, 3], "the ids it had");
    assert_eq!(back.tables.len(), 2);
}

#[test]
fn who_may_not_execute_is_no_guest() {
    let roster = roster();
    come(&roster, 1, advert(1), at(0));
    let mut peer = paired(1);
    peer.rights.execute = false;
    assert!(roster.granted(&peer) && !roster.granted(&peer));
    assert!(world(&roster, &Placement::default(), 1, 1).guests.is_empty());
    roster.dismiss_others(|_| false);
    let told = world(&roster, &Placement::default(), 2, 1);
    assert_eq!((told.devices.len(), roster.rights(&key(1)).map(|r| r.0.fetch_models)), (0, Some(false)));
}

#[test]
fn a_codec_is_offered_where_everybody_speaks_it() {
    let roster = roster();
    let mut mute = advert(1);
    mute.codecs = vec![AdvertCodec { id: 2, name: "f16".into() }, AdvertCodec { id: 4, name: "int7".into() }];
    come(&roster, 1, advert(1), at(0));
    world(&roster, &Placement::default(), 1, 1);
    assert_eq!(roster.common(crate::codecs::all()).len(), crate::codecs::all().len());
    come(&roster, 2, mute, at(0));
    world(&roster, &Placement::default(), 2, 1);
    let ids: Vec<u8> = roster.common(crate::codecs::all()).iter().map(|c| c.id).collect();
    assert_eq!(ids, [0, 2], "raw, and what both call the same");
}

#[test]
fn a_calibration_is_used_where_everybody_has_the_same() {
    let (roster, placement) = (roster(), Placement::default());
    let shared = |own: [u8; 32]| {
        world(&roster, &placement, 1, 1);
        roster.shared_calibrations(&[super::LocalModel { calibration: own, ..local(&placement) }])
    };
    assert_eq!(shared([9; 32]), [true], "nobody else is there");
    assert_eq!(shared([0; 32]), [false], "there is none");
    come(&roster, 1, advert(1), at(0));
    assert_eq!((shared([9; 32]), shared([5; 32])), (vec![true], vec![false]));
    let mut other = advert(1);
    other.models[0].calibration = [0; 32];
    come(&roster, 2, other, at(0));
    assert_eq!(shared([9; 32]), [false], "the second has none");
    let mut without = advert(1);
    without.models.clear();
    come(&roster, 2, without, at(0));
    assert_eq!(shared([9; 32]), [true], "the second does not have the model");
}

#[test]
fn a_world_has_bounds() {
    let roster = roster();
    for number in 1..=80 {
        let mut said = advert(1);
        let more = |index| bps_wire::AdvertDevice { index, ..said.devices[0].clone() };
        said.devices = (0..10).map(more).collect();
        said.models = vec![model(&[0])];
        come(&roster, number, said, at(0));
    }
    let told = world(&roster, &Placement::default(), 1, 1);
    assert_eq!((told.hosts.len(), told.devices.len()), (63, 254));
    roster.take_dirty(at(1));
    assert!(!roster.take_dirty(at(1)), "who has no room is no change");
    roster.came_up(&paired(81), Carrier::Quic, at(0));
    assert_eq!(roster.id_of(&key(81)), Some(HostId(81)));
}
