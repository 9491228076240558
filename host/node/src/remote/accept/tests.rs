use super::*;
use crate::peers::testing::{advert, at, come, forbid, key, leave, roster};
use crate::remote::guests::Guest;
use bps_graph::Limits;
use bps_graph::topology::{Topology, make};
use bps_types::{DataType, DeviceId, Packed};
use bps_wire::Trace;

fn digits() -> Graph {
    Graph::parse(&make(Topology::DigitsNet, 7), &Limits::default()).unwrap()
}

/// A host whose peer 1 may have stages executed.
fn linked() -> Roster {
    let roster = roster();
    come(&roster, 1, advert(1), at(0));
    roster
}

/// Two rows of an input of the digits net, as peer 1 sends them: all of the net is to run on this host's second device.
fn whole(roster: &Roster, graph: &Graph) -> Execute {
    let tensor = Packed {
        codec: 0,
        rate: 0,
        data_type: DataType::Fp32,
        shape: vec![2, 1, 8, 8],
        data: vec![0; 2 * 64 * 4].into(),
    };
    Execute {
        dispatch: 1,
        origin: key(1),
        model: graph.digest,
        cut_list: graph.cut_list_hash(),
        route: vec![Route {
            host: roster.self_key(),
            device: 1,
            from_cut: 0,
            until_cut: OUTPUT_CUT,
            codec: 0,
            rate: 0,
        }],
        rows: 2,
        budget: None,
        priority: 0,
        trace: Trace::default(),
        reports: vec![],
        tensors: vec![tensor],
    }
}

fn verdict(change: impl FnOnce(&mut Execute)) -> Result<Vec<PlanStage>, String> {
    let (roster, graph) = (linked(), digits());
    let mut execute = whole(&roster, &graph);
    change(&mut execute);
    stages(&roster, &graph, &graph.cut_list_hash(), &execute).map_err(|denied| {
        assert_eq!(denied.kind, DeniedKind::Mismatch, "{denied:?}");
        denied.message
    })
}

fn cuts(stages: &[PlanStage]) -> Vec<(u32, u32)> {
    stages.iter().map(|s| (s.from_cut, s.until_cut)).collect()
}

#[test]
fn the_output_is_the_last_cut_of_this_host() {
    let last = digits().cuts.len() as u32 - 1;
    let found = verdict(|_| ()).unwrap();
    assert_eq!((found[0].device, found[0].host, cuts(&found)), (DeviceId(1), HostId(0), vec![(0, last)]));
    let named = verdict(|e| e.route[0].until_cut = last).unwrap();
    assert_eq!(cuts(&named), [(0, last)], "named where the lists agree");
    let passed_on = verdict(|e| {
        let there = Route { host: key(1), device: 5, from_cut: 2, ..e.route[0] };
        e.route = vec![Route { until_cut: 2, ..e.route[0] }, there];
    });
    let passed_on = passed_on.unwrap();
    assert_eq!(cuts(&passed_on), [(0, 2), (2, last)]);
    assert_eq!((passed_on[1].host, passed_on[1].device), (HostId(1), DeviceId(3)));
}

#[test]
fn with_another_cut_list_the_whole_is_taken_and_no_part() {
    let graph = digits();
    let last = graph.cuts.len() as u32 - 1;
    let values = graph.cuts[2].values.len();
    let other = |change: &dyn Fn(&mut Execute)| {
        verdict(|e| {
            e.cut_list = [1; 32];
            change(e);
        })
    };
    assert_eq!(cuts(&other(&|_| ()).unwrap()), [(0, last)]);
    assert_eq!(cuts(&other(&|e| e.tensors[0].codec = 6).unwrap()), [(0, last)], "an image at the input");
    let parts: [&dyn Fn(&mut Execute); 4] = [
        &|e| e.route[0].until_cut = last, // perhaps not the output there
        &|e| e.route[0].until_cut = 2,
        &|e| {
            e.route[0].from_cut = 2;
            e.tensors = vec![e.tensors[0].clone(); values];
        },
        &|e| e.route = vec![Route { until_cut: 2, ..e.route[0] }, Route { from_cut: 2, ..e.route[0] }],
    ];
    for (case, change) in parts.into_iter().enumerate() {
        let expected = "cut lists differ: this host takes the whole model, from input to output, and no part of it";
        assert_eq!(other(change), Err(expected.into()), "case {case}");
    }
}

#[test]
fn every_plan_that_does_not_fit_is_refused_with_its_reason() {
    type Spoil = fn(&mut Execute);
    let cases: [(&str, Spoil); 9] = [
        ("the plan names a host or device that is unknown here", |e| e.route[0].device = 2),
        ("the plan names a host or device that is unknown here", |e| e.route[0].host = key(9)),
        ("the plan names a host or device that is unknown here", |e| {
            e.route.push(Route { host: key(1), device: 1, ..e.route[0] });
        }),
        ("a plan without stages", |e| e.route.clear()),
        ("the plan enters at a cut that does not exist", |e| e.route[0].from_cut = 1_000),
        ("another number of tensors than cross this cut", |e| e.tensors.clear()),
        ("another number of tensors than cross this cut", |e| e.tensors.push(e.tensors[0].clone())),
        ("tensors with another number of rows than the stage has", |e| e.rows = 3),
        ("codec 99 is unknown here", |e| e.tensors[0].codec = 99),
    ];
    for (expected, change) in cases {
        assert_eq!(verdict(change), Err(expected.into()));
    }
}

#[test]
fn an_activation_is_as_many_tensors_as_cross_its_cut() {
    let values = digits().cuts[2].values.len();
    let enters = |count: usize| {
        verdict(|e| {
            e.route[0].from_cut = 2;
            e.tensors = vec![e.tensors[0].clone(); count];
        })
    };
    assert!(enters(values).is_ok());
    assert_eq!(enters(values + 1), Err("another number of tensors than cross this cut".into()));
}

#[test]
fn who_may_not_execute_here_learns_nothing_of_models() {
    type Change = fn(&Roster, &mut Execute);
    let nothing: Change = |_, _| ();
    let not_asked = |_: &[u8; 32]| -> Option<crate::models::InFlight> { panic!("a model was looked up") };
    let cases: [(u8, &str, Change); 4] = [
        (9, "unknown host", nothing),
        (1, "this host was not given the right to execute here", |roster, _| forbid(roster, 1)),
        (1, "this host was not given the right to execute here", |roster, _| leave(roster, 1)),
        (1, "the origin is not paired with this host", |_, execute| execute.origin = key(9)),
    ];
    for (peer, expected, change) in cases {
        let roster = linked();
        let mut execute = whole(&roster, &digits());
        change(&roster, &mut execute);
        let denied = Guest::check(&roster, not_asked, key(peer), execute).err().unwrap();
        assert_eq!((denied.kind, denied.message.as_str()), (DeniedKind::Forbidden, expected));
    }
    let roster = linked();
    let denied = Guest::check(&roster, |_| None, key(1), whole(&roster, &digits())).err().unwrap();
    assert_eq!((denied.kind, denied.message.as_str()), (DeniedKind::Mismatch, "no model with this digest"));
}
