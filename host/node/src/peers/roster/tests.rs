use super::super::testing::{OWN, advert, at, come, estimate, key, paired, roster};
use super::*;
use bps_wire::DeviceReport;

fn report(index: u32) -> DeviceReport {
    DeviceReport { index, up: true, backlog: Nanos::from_millis(3), running: 2, memory_free: Some(5) }
}

fn said_link(to: HostKey, bytes_per_second: f32) -> bps_wire::LinkReport {
    bps_wire::LinkReport { to, up: true, bytes_per_second, rtt: Nanos::from_millis(9), backlog_bytes: 1 }
}

fn standing(epoch: u32, links: Vec<bps_wire::LinkReport>) -> bps_wire::Standing {
    bps_wire::Standing { epoch, devices: vec![report(0), report(5), report(6)], links }
}

#[test]
fn ids_are_given_once() {
    let roster = roster();
    come(&roster, 1, advert(1), at(0));
    come(&roster, 2, advert(1), at(0));
    roster.went_down(&key(1), "gone".into(), at(1));
    come(&roster, 1, advert(1), at(2));
    let ids: Vec<_> = [OWN, key(1), key(2), key(3)].iter().map(|k| roster.id_of(k)).collect();
    assert_eq!(ids, [Some(HostId(0)), Some(HostId(1)), Some(HostId(2)), None]);
    assert_eq!((roster.key_of(HostId(0)), roster.key_of(HostId(2))), (Some(OWN), Some(key(2))));
    assert_eq!((roster.key_of(HostId(3)), roster.key_of(HostId(u32::MAX))), (None, None));
    let routes: Vec<_> = (0..7).map(|d| roster.route_of(DeviceId(d))).collect();
    let expected = [
        Some((OWN, 0)),
        Some((OWN, 1)),
        Some((key(1), 0)),
        Some((key(1), 5)),
        Some((key(2), 0)),
        Some((key(2), 5)),
        None,
    ];
    assert_eq!(routes, expected);
    assert_eq!((roster.device_of(&OWN, 1), roster.device_of(&OWN, 2)), (Some(DeviceId(1)), None));
}

#[test]
fn a_link_is_up_when_all_is_known() {
    let roster = roster();
    roster.came_up(&paired(1), Carrier::Tcp, at(0));
    assert_eq!(roster.take_estimate(&key(1), estimate()), News::default(), "no advert yet");
    roster.take_advert(&key(1), advert(1)).unwrap();
    roster.neighbours(&[], 2, 1, at(0));
    let links = roster.all_news().links;
    let ends: Vec<_> = links.iter().map(|l| (l.source.0, l.target.0, l.up, l.bytes_per_second)).collect();
    assert_eq!(ends, [(0, 1, true, 1e6), (1, 0, true, 1e6)], "the way back is taken for as good");
    assert_eq!((roster.clock_offset(HostId(1)), roster.clock_offset(HostId(0))), (Some(-7), Some(0)));
    assert_eq!(roster.took_leave(), [(0, 1, false), (1, 0, false)]);
    assert_eq!(roster.clock_offset(HostId(1)), None);
    assert_eq!(roster.all_news(), News::default(), "who is away has no news");
}

impl Roster {
    fn took_leave(&self) -> Vec<(u32, u32, bool)> {
        let news = self.went_down(&key(1), "gone".into(), at(5));
        news.links.iter().map(|l| (l.source.0, l.target.0, l.up)).collect()
    }
}

#[test]
fn standings_come_under_this_hosts_ids() {
    let roster = roster();
    come(&roster, 1, advert(3), at(0));
    assert_eq!(roster.take_standing(&key(1), standing(2, vec![]), at(1)), News::default(), "of another advert");
    let news = roster.take_standing(&key(1), standing(3, vec![said_link(OWN, 2e6)]), at(1));
    let devices: Vec<_> = news.standings.iter().map(|s| (s.device.0, s.running, s.backlog)).collect();
    let backlog = Nanos::from_millis(3);
    assert_eq!(devices, [(2, 2, backlog), (3, 2, backlog)], "number 6 is no device of the advert");
    assert_eq!((news.links[0].bytes_per_second, news.links[0].up), (2e6, true));
    let lies = standing(3, vec![said_link(OWN, f32::NAN), said_link(key(9), 1.0)]);
    assert_eq!(roster.take_standing(&key(1), lies.clone(), at(1)), News::default(), "too fast");
    let news = roster.take_standing(&key(1), lies, at(2));
    assert_eq!((news.links.len(), news.links[0].bytes_per_second), (1, 0.0));
    assert_eq!(roster.take_standing(&key(7), standing(3, vec![]), at(3)), News::default(), "of nobody");
}

#[test]
fn links_between_others_are_known_and_go_with_them() {
    let roster = roster();
    come(&roster, 1, advert(1), at(0));
    come(&roster, 2, advert(1), at(0));
    roster.neighbours(&[], 2, 1, at(0));
    let news = roster.take_standing(&key(1), standing(1, vec![said_link(key(2), 3e6)]), at(0));
    let ends: Vec<_> = news.links.iter().map(|l| (l.source.0, l.target.0)).collect();
    assert_eq!(ends, [(1, 0), (1, 2)]);
    assert_eq!(roster.took_leave(), [(0, 1, false), (1, 0, false), (1, 2, false)]);
}

#[test]
fn a_link_between_others_that_is_no_longer_spoken_of_is_down() {
    let roster = roster();
    (1..=3).for_each(|number| come(&roster, number, advert(1), at(0)));
    roster.neighbours(&[], 2, 1, at(0));
    let says = |seconds, links| {
        let news = roster.take_standing(&key(1), standing(1, links), at(seconds));
        news.links.iter().map(|l| (l.source.0, l.target.0, l.up)).collect::<Vec<_>>()
    };
    let links = || vec![said_link(OWN, 2e6), said_link(key(2), 3e6), said_link(key(3), 3e6), said_link(key(9), 1.0)];
    assert_eq!(says(1, links()), [(1, 0, true), (1, 2, true), (1, 3, true)]);
    let without = links().into_iter().filter(|l| l.to != key(2)).collect();
    assert_eq!(says(2, without), [(1, 0, true), (1, 3, true), (1, 2, false)]);
    assert_eq!(says(3, vec![said_link(OWN, 2e6)]), [(1, 0, true), (1, 3, false)], "told once, and strangers never");
    let down = bps_wire::LinkReport { up: false, ..said_link(key(2), 3e6) };
    assert_eq!(says(4, vec![down]), [(1, 0, true), (1, 2, false)], "a host may say so itself");
    assert_eq!(says(5, links()), [(1, 0, true), (1, 2, true), (1, 3, true)], "and up again");
    let world = roster.all_news().links;
    assert!(world.iter().all(|l| l.up) && world.len() == 8, "{world:?}");
}

#[test]
fn an_advert_that_was_overtaken_is_dropped_and_a_new_session_begins_anew() {
    let roster = roster();
    come(&roster, 1, advert(5), at(0));
    roster.take_dirty(at(0));
    let old = Advert { window: 1, ..advert(4) };
    roster.take_advert(&key(1), old.clone()).unwrap();
    assert!(!roster.lock().dirty);
    roster.went_down(&key(1), "gone".into(), at(1));
    assert!(roster.take_advert(&key(1), old.clone()).is_err(), "no session");
    roster.came_up(&paired(1), Carrier::Tcp, at(2));
    roster.take_advert(&key(1), old).unwrap();
    assert_eq!(roster.peer(&key(1)).unwrap().window(), 1, "a restarted host counts from the start");
}

#[test]
fn hostile_adverts() {
    type Change = fn(&mut Advert);
    let refused: [(&str, Change); 8] = [
        ("too many devices", |a| a.devices = vec![a.devices[0].clone(); 65]),
        ("a device twice", |a| a.devices[1].index = 0),
        ("a number that is too large", |a| a.devices[1].index = 64),
        ("too many models", |a| a.models = vec![a.models[0].clone(); 257]),
        ("too many codecs", |a| a.codecs = vec![a.codecs[0].clone(); 33]),
        ("too many hosts", |a| a.peers = vec![OWN; 65]),
        ("a model on no device", |a| a.models[0].devices.push(9)),
        ("too many values", |a| a.models[0].tables[0].values = vec![0.0; (1 << 20) + 1]),
    ];
    for (what, change) in refused {
        let roster = roster();
        roster.came_up(&paired(1), Carrier::Tcp, at(0));
        let mut said = advert(1);
        change(&mut said);
        assert!(roster.take_advert(&key(1), said).is_err(), "{what}");
        assert!(roster.peer(&key(1)).unwrap().advert.is_none(), "{what}");
    }
    let roster = roster();
    let mut said = advert(1);
    said.window = u32::MAX;
    said.models[0].name = format!("\u{1b}[2J{}", "x".repeat(500));
    said.models.push(said.models[0].clone());
    come(&roster, 1, said, at(0));
    let peer = roster.peer(&key(1)).unwrap();
    let kept = peer.advert.as_ref().unwrap();
    assert_eq!((kept.window, kept.models.len(), kept.models[0].name.chars().count()), (1_024, 1, 128));
    assert!(kept.models[0].name.starts_with("?[2Jx"));
}

#[test]
fn offers_are_exportable_files_of_hosts_that_are_there() {
    let roster = roster();
    let mut kept = advert(1);
    kept.models[0].exportable = false;
    come(&roster, 1, advert(1), at(0));
    come(&roster, 2, kept, at(0));
    let offers = roster.offers();
    assert_eq!((offers.len(), offers[0].peer, offers[0].file_bytes), (1, key(1), 100));
    roster.went_down(&key(1), "gone".into(), at(1));
    assert_eq!(roster.offers(), []);
}
