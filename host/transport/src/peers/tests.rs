use super::*;
use proptest::prelude::*;

fn peer(number: u8, name: &str) -> Peer {
    Peer {
        key: HostKey([number; 32]),
        name: name.into(),
        address: Some(format!("10.0.0.{number}:7860")),
        rights: Rights { execute: true, fetch_models: false },
        quotas: Quotas::default(),
    }
}

#[test]
fn what_is_put_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = PeerStore::open(&dir.path().join("state")).unwrap();
    assert!(store.list().is_empty());
    let first = Peer { address: Some("[fe80::1]:7860".into()), ..peer(1, "edge") };
    let second = Peer {
        address: None,
        rights: Rights::default(),
        quotas: Quotas { window: 1, bytes_max: 1 << 50 },
        ..peer(2, "a strong one")
    };
    assert_eq!(store.put(first.clone()).unwrap(), first);
    store.put(second.clone()).unwrap();
    for store in [store, PeerStore::open(&dir.path().join("state")).unwrap()] {
        assert_eq!(store.list(), [second.clone(), first.clone()]);
        assert_eq!(store.get(&first.key), Some(first.clone()));
        assert_eq!(store.get(&HostKey([9; 32])), None);
    }
    #[cfg(unix)]
    {
        let mode = fs::metadata(dir.path().join("state").join(PEERS_FILE)).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    }
}

#[test]
fn a_key_is_there_once_and_a_name_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = PeerStore::open(dir.path()).unwrap();
    store.put(peer(1, "edge")).unwrap();
    assert_eq!(store.put(peer(2, "edge")).unwrap().name, "edge-2");
    assert_eq!(store.put(peer(3, "edge")).unwrap().name, "edge-3");
    assert_eq!(store.put(peer(2, "edge")).unwrap().name, "edge-2", "paired again");
    assert_eq!(store.put(Peer { address: None, ..peer(1, "edge") }).unwrap().name, "edge");
    assert_eq!(store.list().len(), 3);
    let long = "é".repeat(32);
    store.put(peer(4, &long)).unwrap();
    let numbered = store.put(peer(5, &long)).unwrap().name;
    assert_eq!(numbered, format!("{}-2", "é".repeat(31)));
}

#[test]
fn a_change_is_seen_by_whoever_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let serving = PeerStore::open(dir.path()).unwrap();
    let command = PeerStore::open(dir.path()).unwrap();
    assert!(!serving.refresh().unwrap());
    command.put(peer(1, "edge")).unwrap();
    assert!(serving.list().is_empty());
    assert!(serving.refresh().unwrap() && !serving.refresh().unwrap());
    assert_eq!(serving.list().len(), 1);
    command.remove("edge").unwrap();
    assert!(serving.refresh().unwrap());
    assert!(serving.list().is_empty());
}

#[test]
fn a_host_is_found_by_name_or_fingerprint() {
    let key = |head: [u8; 3]| HostKey(std::array::from_fn(|i| head.get(i).copied().unwrap_or(7)));
    let all = [
        Peer { key: key([0xab, 0xcd, 0x01]), ..peer(1, "edge") },
        Peer { key: key([0xab, 0xcd, 0x02]), ..peer(2, "abcd0") },
        Peer { key: key([0xff, 0xee, 0x00]), ..peer(3, "strong") },
    ];
    for (which, found) in [
        ("edge", Ok(0)),
        ("abcd0", Ok(1)),
        ("abcd02", Ok(1)),
        ("AB:CD:01", Ok(0)),
        ("ffee0007 07", Ok(2)),
        ("ffe", Err("no paired host")),
        ("", Err("no paired host")),
        ("Edge", Err("no paired host")),
        ("0000", Err("edge (abcd010707070707), abcd0")),
        ("abcd", Err("fits several")),
    ] {
        match (find(&all, which), found) {
            (Ok(index), Ok(wanted)) => assert_eq!(index, wanted, "{which}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{which}: {error}"),
            (got, _) => panic!("{which}: {got:?}"),
        }
    }
    assert!(find(&[], "edge").unwrap_err().to_string().ends_with("there are: none"));
}

#[test]
fn writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let folder = dir.path();
            // Each with a handle of its own, as processes have.
            scope.spawn(move || PeerStore::open(folder).unwrap().put(peer(number, &format!("host{number}"))).unwrap());
        }
    });
    let store = PeerStore::open(dir.path()).unwrap();
    assert_eq!(store.list().len(), 16);
    let shared = &store;
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || shared.remove(&format!("host{number}")).unwrap());
        }
    });
    assert!(PeerStore::open(dir.path()).unwrap().list().is_empty());
}

#[test]
fn hostile_files_are_refused_and_named() {
    let entry = |change: (&str, &str)| {
        let key = "ab".repeat(32);
        let text = format!(
            "[[peer]]\nname = \"edge\"\nfingerprint = \"{key}\"\naddress = \"h:1\"\nallow = [\"execute\"]\nwindow = 1\n\
             bytes_max = 1\n"
        );
        assert!(text.contains(change.0), "{change:?}");
        text.replace(change.0, change.1)
    };
    let whole = entry(("edge", "edge"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(PEERS_FILE);
    let write = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        PeerStore::open(dir.path())
    };
    assert_eq!(write(whole.as_bytes()).unwrap().list().len(), 1);
    for (content, part) in [
        ("peer = 1".into(), "peer"),
        ("[[peer]]\nname = \"x\"".into(), "fingerprint"),
        ("trust = \"everyone\"".into(), "unknown field"),
        (entry(("window = 1", "window = 1\nroot = true")), "unknown field"),
        (entry(("window = 1", "window = -1")), "-1"),
        (entry(("window = 1", "window = 0")), "window must be"),
        (entry(("bytes_max = 1", "bytes_max = 0")), "bytes_max must be"),
        (entry(("bytes_max = 1", "bytes_max = 9223372036854775807")), "bytes_max must be"),
        (entry(("\"execute\"", "\"everything\"")), "everything"),
        (entry(("abab", "ab")), "64 hex digits"),
        (entry(("abab", "abxy")), "64 hex digits"),
        (entry(("\"edge\"", "\"\"")), "not a name"),
        (entry(("\"edge\"", "\"\\u001b[2J\"")), "not a name"),
        (entry(("\"edge\"", "\"a\\u202eb\"")), "not a name"),
        (entry(("h:1", "h")), "not an address"),
        (entry(("h:1", "h:0")), "not an address"),
        (entry(("h:1", "::1:1")), "not an address"),
        (entry(("h:1", "http://h:1")), "not an address"),
        (format!("{whole}{}", entry(("edge", "other"))), "there twice"),
        (format!("{whole}{}", entry(("abab", "cdcd"))), "two hosts are named"),
        ("# \n".repeat(200_000), "more than"),
    ] {
        let error = write(content.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(PEERS_FILE), "{part}: {error}");
    }
    assert!(write(b"\xff\xfe").unwrap_err().to_string().contains("utf-8"));
}

/// As bps wrote it before files had a last line.
const OLD_HEAD: &str = "\
# The hosts paired with this one, and what each may do here. Written by `bps pair` and `bps unpair`; a running host sees
# every change. `allow` holds \"execute\" and \"models\"; a host without an address connects to this one.

";

#[test]
fn a_file_that_was_cut_off_is_refused_wherever() {
    let peers = [peer(1, "edge"), peer(2, "other")];
    for written in [&peers[..], &peers[..1], &[]] {
        let whole = file::text(written).unwrap();
        assert_eq!(file::parse(&whole).unwrap(), written);
        // The newline at the end is the one byte that may be missing.
        for length in 0..whole.len() - 1 {
            assert!(file::parse(&whole[..length]).is_err(), "{}", &whole[..length]);
        }
        assert!(file::parse(whole.trim_end()).is_ok());
        let in_the_comment = file::parse(&whole[..80]).unwrap_err();
        assert!(in_the_comment.starts_with("it was cut off") && in_the_comment.contains("pair"), "{in_the_comment}");
        let before_the_end = file::parse(&whole[..whole.len() - 5]).unwrap_err();
        assert!(before_the_end.contains("`# end of the paired hosts`, is missing"), "{before_the_end}");
    }
}

#[test]
fn files_of_before_and_files_by_hand_are_read() {
    let peers = [peer(1, "edge")];
    let body = file::text(&peers).unwrap();
    let body = &body[body.find("[[peer]]").unwrap()..body.rfind("# end").unwrap()];
    let added_below_the_end = format!("{}{body}", file::text(&[]).unwrap().replace("peer = []\n", ""));
    for text in [format!("{OLD_HEAD}{body}"), body.to_owned(), added_below_the_end] {
        assert_eq!(file::parse(&text).unwrap(), peers, "{text}");
    }
    assert!(file::parse(&format!("{OLD_HEAD}peer = []\n")).unwrap().is_empty());
    for cut in [0, 1, 80, OLD_HEAD.len() - 1, OLD_HEAD.len()] {
        assert!(file::parse(&OLD_HEAD[..cut]).unwrap_err().starts_with("it was cut off"), "{cut}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_change_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    PeerStore::open(dir.path()).unwrap().put(peer(1, "edge")).unwrap();
    fs::set_permissions(dir.path().join(PEERS_FILE), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(PeerStore::open(dir.path()).unwrap_err().to_string().contains("chmod 600"));
}

#[test]
fn a_file_that_broke_leaves_what_was_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = PeerStore::open(dir.path()).unwrap();
    store.put(peer(1, "edge")).unwrap();
    fs::write(dir.path().join(PEERS_FILE), "half a li").unwrap();
    assert!(store.refresh().is_err());
    assert_eq!(store.list().len(), 1);
    assert!(store.put(peer(2, "other")).is_err(), "nothing is written over what cannot be read");
    assert_eq!(fs::read_to_string(dir.path().join(PEERS_FILE)).unwrap(), "half a li");
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,300}") {
        let _ = file::parse(&text);
    }

    #[test]
    fn what_is_written_is_read(names in proptest::collection::btree_set("[a-zé0-9][a-z .@()'+_-]{0,20}[a-z]", 0..20)) {
        let peers: Vec<Peer> = names.iter().zip(0u8..).map(|(name, number)| peer(number, name)).collect();
        prop_assert_eq!(file::parse(&file::text(&peers).unwrap()).unwrap(), peers);
    }
}
