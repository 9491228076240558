use super::*;
use bps_wire::HostKey;
use sha2::{Digest, Sha256};
use std::time::Duration;

fn item_of(number: u8, bytes: u64) -> Item {
    let used = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(number));
    Item { digest: [number; 32], partial: false, bytes, used, origin: Origin::default() }
}

#[test]
fn the_longest_unused_goes_first_and_only_as_many_as_needed() {
    let items = [item_of(1, 40), item_of(2, 30), item_of(3, 20)];
    let of = |needed, keep: &[u8]| evict(&items, needed, 100, |d| keep.contains(&d[0]));
    assert_eq!(of(10, &[]), Some(vec![]), "it fits as it is");
    assert_eq!(of(11, &[]), Some(vec![[1; 32]]));
    assert_eq!(of(60, &[]), Some(vec![[1; 32], [2; 32]]));
    assert_eq!(of(60, &[1]), Some(vec![[2; 32], [3; 32]]));
    assert_eq!(of(61, &[1]), None, "what must stay leaves no room");
    assert_eq!(of(101, &[]), None, "more than the quota");
    assert_eq!(of(u64::MAX, &[]), None);
}

fn offer(content: &[u8]) -> Offer {
    Offer {
        peer: HostKey([1; 32]),
        peer_name: "origin".into(),
        digest: Sha256::digest(content).into(),
        cut_list: [0; 32],
        name: "net".into(),
        file_bytes: content.len() as u64,
    }
}

#[test]
fn a_file_comes_in_pieces_over_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..1_000u32).map(|i| (i * 7) as u8).collect();
    let offer = offer(&content);
    let piece = |from: usize, to: usize| Bytes::copy_from_slice(&content[from..to]);
    let shelf = Shelf::new(state.path(), 10_000);
    assert_eq!(shelf.begin(&offer, |_| false).unwrap(), (0, vec![]));
    shelf.append(&offer.digest, 0, &piece(0, 400), Some("batch_max = 2")).unwrap();

    let again = Shelf::new(state.path(), 10_000);
    assert!(again.scan().unwrap()[0].partial);
    assert_eq!(again.begin(&offer, |_| false).unwrap().0, 400);
    again.append(&offer.digest, 400, &piece(400, 1_000), None).unwrap();
    again.finish(&offer.digest).unwrap();
    let items = again.scan().unwrap();
    assert_eq!((items.len(), items[0].partial, items[0].bytes), (1, false, 1_000));
    assert_eq!((items[0].origin.name.as_str(), items[0].origin.peer.as_str()), ("net", "origin"));
    assert!(again.is_sound(&offer.digest));
    let Source::File { onnx, manifests } = again.source(&offer.digest) else { panic!("a file") };
    assert_eq!(fs::read(&onnx).unwrap(), content);
    assert_eq!(fs::read_to_string(&manifests[0]).unwrap(), "batch_max = 2");
    fs::write(&onnx, b"changed").unwrap();
    assert!(!again.is_sound(&offer.digest));
}

#[test]
fn another_file_than_was_offered_is_thrown_away() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), 10_000);
    let offer = offer(b"the model");
    shelf.begin(&offer, |_| false).unwrap();
    shelf.append(&offer.digest, 0, &Bytes::from_static(b"not model"), Some("")).unwrap();
    assert!(shelf.finish(&offer.digest).unwrap_err().contains("digest"));
    assert_eq!(shelf.scan().unwrap(), []);
}

#[test]
fn a_part_that_cannot_be_gone_on_with_begins_anew() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), 10_000);
    let offer = offer(b"the model");
    for (content, manifest) in [(&b"longer than the file"[..], Some("")), (b"part", None)] {
        shelf.begin(&offer, |_| false).unwrap();
        shelf.append(&offer.digest, 0, &Bytes::copy_from_slice(content), manifest).unwrap();
        assert_eq!(shelf.begin(&offer, |_| false).unwrap().0, 0);
        shelf.discard(&offer.digest);
    }
}

#[test]
fn the_quota_counts_whole_and_partial_files() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), 20);
    let (first, second) = (offer(b"twelve bytes"), offer(b"eleven byte"));
    shelf.begin(&first, |_| false).unwrap();
    shelf.append(&first.digest, 0, &Bytes::from_static(b"twelve bytes"), Some("")).unwrap();
    shelf.finish(&first.digest).unwrap();
    assert!(shelf.begin(&second, |d| *d == first.digest).unwrap_err().contains("no room"));
    assert_eq!(shelf.begin(&second, |_| false).unwrap(), (0, vec![first.digest]));
    assert!(shelf.scan().unwrap().iter().all(|i| i.digest == second.digest));
    assert!(shelf.begin(&offer(&[0; 21]), |_| false).is_err(), "larger than the quota");
}

#[test]
fn strangers_in_the_folder_are_left_alone() {
    let state = tempfile::tempdir().unwrap();
    for name in ["notes", "ABCD", &"g".repeat(64), &format!("{}.part.part", "a".repeat(64))] {
        fs::create_dir_all(state.path().join(FOLDER).join(name)).unwrap();
    }
    let shelf = Shelf::new(state.path(), 20);
    assert_eq!(shelf.scan().unwrap(), []);
    assert_eq!(fs::read_dir(state.path().join(FOLDER)).unwrap().count(), 4);
}
