use super::*;
use bps_graph::build::with_external;
use bps_graph::topology::{Topology, make};
use bps_graph::{Graph, Limits};
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

#[test]
fn a_disk_keeps_room_for_others() {
    let fits = |lacking, freed, free| fits_on_disk(lacking, freed, free).is_ok();
    assert!(fits(0, 0, Some(SPARE_BYTES)) && !fits(1, 0, Some(SPARE_BYTES)));
    assert!(fits(10, 10, Some(SPARE_BYTES)) && !fits(11, 10, Some(SPARE_BYTES)), "what is given up counts");
    assert!(fits(u64::MAX, 0, None) && !fits(u64::MAX, 0, Some(u64::MAX - 1)));
}

/// A model as its giver has it: offer, list, and what the files hold.
struct Given {
    offer: Offer,
    list: ModelList,
    content: Vec<Bytes>,
}

/// The digits net with its weights, all but the first, in turn in the files that are named.
fn given(seed: u64, outside: &[&str]) -> Given {
    let mut count = 0;
    let in_turn = |_: &str| {
        count += 1;
        (count > 1 && !outside.is_empty()).then(|| outside[count % outside.len()].to_owned())
    };
    let (onnx, files) = with_external(&make(Topology::DigitsNet, seed), in_turn).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(MODEL), &onnx).unwrap();
    files.iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    let digest = Graph::load(&folder.path().join(MODEL), &Limits::default()).unwrap().digest;
    let all: Vec<(String, Bytes)> =
        std::iter::once((MODEL.to_owned(), onnx)).chain(files).map(|(name, content)| (name, content.into())).collect();
    let listed = |(name, content): &(String, Bytes)| ModelFile {
        name: name.clone(),
        bytes: content.len() as u64,
        digest: Sha256::digest(content).into(),
    };
    let list = ModelList { digest, manifest: "batch_max = 2".into(), files: all.iter().map(listed).collect() };
    let offer = Offer {
        peer: HostKey([1; 32]),
        peer_name: "origin".into(),
        digest,
        cut_list: [0; 32],
        calibration: [0; 32],
        name: "net".into(),
        file_bytes: list.files.iter().map(|file| file.bytes).sum(),
    };
    Given { offer, list, content: all.into_iter().map(|(_, content)| content).collect() }
}

impl Given {
    fn begin(&self, shelf: &Shelf) -> Vec<u64> {
        shelf.begin(&self.offer, &self.list, |_| false).unwrap().0
    }

    /// Bytes of a file from one place to another.
    fn append(&self, shelf: &Shelf, file: usize, from: usize, to: usize) -> Result<(), String> {
        let data = self.content[file].slice(from..to);
        shelf.append(&self.offer.digest, &self.list.files[file], from as u64, &data)
    }

    fn append_whole(&self, shelf: &Shelf, file: usize) -> Result<(), String> {
        self.append(shelf, file, 0, self.content[file].len())
    }
}

const ROOM: u64 = 1 << 30;

#[test]
fn files_come_in_pieces_over_restarts_in_the_middle_of_the_second() {
    let state = tempfile::tempdir().unwrap();
    let given = given(7, &["a.bin", "b.bin"]);
    let bytes: Vec<usize> = given.content.iter().map(Bytes::len).collect();
    let shelf = Shelf::new(state.path(), ROOM);
    assert_eq!(given.begin(&shelf), [0, 0, 0]);
    given.append(&shelf, 0, 0, 400).unwrap();

    let again = Shelf::new(state.path(), ROOM);
    assert!(again.scan().unwrap()[0].partial);
    assert_eq!(given.begin(&again), [400, 0, 0]);
    given.append(&again, 0, 400, bytes[0]).unwrap();
    given.append(&again, 1, 0, 100).unwrap();

    let again = Shelf::new(state.path(), ROOM);
    assert_eq!(given.begin(&again), [bytes[0] as u64, 100, 0]);
    given.append(&again, 1, 100, bytes[1]).unwrap();
    given.append_whole(&again, 2).unwrap();
    assert!(again.scan().unwrap()[0].partial, "nothing is served from where it comes in");
    again.finish(&given.offer.digest).unwrap();
    let items = again.scan().unwrap();
    assert_eq!((items.len(), items[0].partial), (1, false));
    assert!(items[0].bytes > given.offer.file_bytes, "with what this host wrote");
    assert_eq!((items[0].origin.name.as_str(), items[0].origin.peer.as_str()), ("net", "origin"));
    assert!(again.is_sound(&given.offer.digest));
    let Source::File { onnx, manifests } = again.source(&given.offer.digest) else { panic!("a file") };
    assert_eq!(Graph::load(&onnx, &Limits::default()).unwrap().digest, given.offer.digest);
    assert_eq!(fs::read_to_string(&manifests[0]).unwrap(), "batch_max = 2");
    for name in [MODEL, "b.bin", "files.json"] {
        let path = onnx.with_file_name(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, b"changed").unwrap();
        assert!(!again.is_sound(&given.offer.digest), "{name}");
        fs::write(&path, before).unwrap();
        assert!(again.is_sound(&given.offer.digest), "{name}");
    }
}

#[test]
fn a_model_that_is_opened_again_needs_only_what_is_new() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), ROOM);
    let mut given = given(7, &["a.bin"]);
    let package = |content: &'static [u8]| (content, Sha256::digest(content).into());
    for (content, digest) in [package(b"first"), package(b"second one")] {
        given.list.files.truncate(2);
        given.content.truncate(2);
        given.list.files.push(ModelFile { name: "model.ff".into(), bytes: content.len() as u64, digest });
        given.content.push(Bytes::from_static(content));
        let have = given.begin(&shelf);
        let whole = |file: usize| given.list.files[file].bytes;
        let expected = if content == b"first" { vec![0, 0, 0] } else { vec![whole(0), whole(1), 0] };
        assert_eq!(have, expected);
        for file in (0..3).filter(|file| have[*file] == 0) {
            given.append_whole(&shelf, file).unwrap();
        }
        shelf.finish(&given.offer.digest).unwrap();
        let path = shelf.whole(&given.offer.digest).join("model.ff");
        assert_eq!(fs::read(path).unwrap(), content);
        assert!(shelf.is_sound(&given.offer.digest));
    }
    // One that is missing is asked for.
    fs::remove_file(shelf.whole(&given.offer.digest).join("a.bin")).unwrap();
    shelf.discard_partial(&given.offer.digest);
    let have = given.begin(&shelf);
    assert_eq!(have, [given.list.files[0].bytes, 0, given.list.files[2].bytes]);
}

#[test]
fn a_file_that_is_not_what_was_listed_is_thrown_away_alone() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), ROOM);
    let given = given(7, &["a.bin", "b.bin"]);
    given.begin(&shelf);
    given.append_whole(&shelf, 0).unwrap();
    let wrong = Bytes::from(vec![1; given.content[1].len()]);
    let error = shelf.append(&given.offer.digest, &given.list.files[1], 0, &wrong).unwrap_err();
    assert!(error.starts_with("a.bin: what came has the digest "), "{error}");
    assert_eq!(given.begin(&shelf), [given.content[0].len() as u64, 0, 0]);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), ROOM);
    let given = given(7, &["a.bin"]);
    given.begin(&shelf);
    given.append_whole(&shelf, 0).unwrap();
    fs::create_dir(shelf.part(&given.offer.digest).join("a.bin")).unwrap();
    assert!(given.append_whole(&shelf, 1).unwrap_err().contains("a.bin"));
    assert!(!shelf.part(&given.offer.digest).exists());
}

#[test]
fn what_lies_there_from_before_is_looked_at() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), ROOM);
    let given = given(7, &["a.bin"]);
    let path = shelf.part(&given.offer.digest).join("a.bin");
    let whole = given.content[1].len();
    for (what, left, expected) in
        [("too long", vec![0; whole + 1], 0), ("of another digest", vec![0; whole], 0), ("cut short", vec![0; 9], 9)]
    {
        given.begin(&shelf);
        fs::write(&path, left).unwrap();
        assert_eq!(given.begin(&shelf), [0, expected], "{what}");
    }
    given.append_whole(&shelf, 0).unwrap();
    let mut other = given.list.clone();
    other.files[1].digest = [9; 32];
    let have = shelf.begin(&given.offer, &other, |_| false).unwrap().0;
    assert_eq!(have, [other.files[0].bytes, 0], "only a file that is the same in both lists is gone on with");
    fs::write(path.with_file_name("junk.bin"), "junk").unwrap();
    fs::create_dir_all(path.with_file_name("sub").join("deeper")).unwrap();
    std::os::unix::fs::symlink(state.path(), path.with_file_name("link")).unwrap();
    given.begin(&shelf);
    let mut names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["files.json", MODEL, "model.toml", "origin.json"], "what nobody sent goes");
    fs::write(path.with_file_name("files.json"), r#"[{"name":"../x","bytes":1,"sha256":""}]"#).unwrap();
    assert_eq!(given.begin(&shelf), [0, 0], "without a sound list it begins anew");
}

#[test]
fn a_model_names_exactly_the_files_that_came() {
    let small = |name: &str| {
        (ModelFile { name: name.into(), bytes: 1, digest: Sha256::digest(b"x").into() }, Bytes::from_static(b"x"))
    };
    let put = |given: &Given| {
        let state = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(state.path(), ROOM);
        given.begin(&shelf);
        (0..given.content.len()).for_each(|file| given.append_whole(&shelf, file).unwrap());
        let finished = shelf.finish(&given.offer.digest);
        assert_eq!(shelf.scan().unwrap()[0].partial, finished.is_err());
        finished
    };
    assert_eq!(put(&given(7, &["a.bin", "b.bin"])), Ok(()));

    let mut with_calibration = given(7, &["a.bin"]);
    let (file, content) = small("model.ff");
    with_calibration.list.files.push(file);
    with_calibration.content.push(content);
    assert_eq!(put(&with_calibration), Ok(()), "what is in it is for the loader to say");

    let mut extra = given(7, &["a.bin"]);
    let (file, content) = small("x.bin");
    extra.list.files.push(file);
    extra.content.push(content);
    assert_eq!(put(&extra).unwrap_err(), "file \"x.bin\" is listed, and the model keeps nothing in it");

    let mut missing = given(7, &["a.bin", "b.bin"]);
    missing.list.files.pop();
    missing.content.pop();
    let error = put(&missing).unwrap_err();
    assert!(error.contains("`b.bin`"), "{error}");

    // A file of this host's own is there, and is none of the model's.
    let mut own = given(7, &["origin.json"]);
    own.list.files.pop();
    own.content.pop();
    let error = put(&own).unwrap_err();
    assert!(error.contains("origin.json"), "{error}");
}

#[test]
fn a_model_of_another_digest_is_not_put_on_the_shelf() {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(state.path(), ROOM);
    let mut given = given(7, &["a.bin"]);
    let real = given.offer.digest;
    given.offer.digest = [3; 32];
    given.begin(&shelf);
    (0..2).for_each(|file| given.append_whole(&shelf, file).unwrap());
    assert_eq!(shelf.finish(&[3; 32]).unwrap_err(), format!("what came has the digest {}", hex(&real)));
}

#[test]
fn the_quota_counts_all_files_before_one_is_made() {
    let state = tempfile::tempdir().unwrap();
    let (first, second) = (given(7, &["a.bin"]), given(8, &["a.bin", "b.bin"]));
    let needed = |given: &Given| given.offer.file_bytes + given.list.manifest.len() as u64;
    let shelf = Shelf::new(state.path(), needed(&second) - 1);
    assert!(shelf.begin(&second.offer, &second.list, |_| false).unwrap_err().contains("no room"));
    assert!(!state.path().join(FOLDER).exists(), "nothing was made");

    let shelf = Shelf::new(state.path(), needed(&first) + needed(&second));
    first.begin(&shelf);
    (0..2).for_each(|file| first.append_whole(&shelf, file).unwrap());
    shelf.finish(&first.offer.digest).unwrap();
    // What this host wrote beside the first one counts, too.
    let keep_first = |digest: &[u8; 32]| *digest == first.offer.digest;
    assert!(shelf.begin(&second.offer, &second.list, keep_first).unwrap_err().contains("no room"));
    assert_eq!(shelf.scan().unwrap().len(), 1, "nothing was made");
    let (have, given_up) = shelf.begin(&second.offer, &second.list, |_| false).unwrap();
    assert_eq!((have, given_up), (vec![0, 0, 0], vec![first.offer.digest]));
    assert!(shelf.scan().unwrap().iter().all(|i| i.digest == second.offer.digest));
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
