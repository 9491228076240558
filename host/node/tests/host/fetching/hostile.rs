//! A giver that lies: nothing of it is served, nothing lies where it should not, and the host goes on.

use super::giver::{Asked, Given, Scene, names};
use crate::stand::{settled, until};
use bps_codec::ff::Package;
use bps_wire::ModelList;
use std::time::Duration;

const ROOM: u64 = 1 << 30;

/// Long enough for a host that looks four times a second to do what it should not.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}

async fn end(scene: &Scene) {
    let host = scene.host.as_ref().unwrap();
    assert!(!scene.is_fetched());
    settled(host).await;
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_cannot_be_taken_leave_nothing_on_disk() {
    type Lie = fn(&mut ModelList);
    let lies: [(&str, Lie); 6] = [
        ("a way out of the folder", |l| l.files[1].name = "../../evil.bin".into()),
        ("an absolute name", |l| l.files[1].name = "/tmp/bps-evil.bin".into()),
        ("a name of this host's own", |l| l.files[1].name = "origin.json".into()),
        ("twins", |l| l.files[2].name = "W.BIN".into()),
        ("no model", |l| drop(l.files.remove(0))),
        ("another size than was offered", |l| l.files[1].bytes += 1),
    ];
    for (what, lie) in lies {
        let mut given = Given::honest(&["w.bin", "v.bin"]);
        given.list.files.sort_by_key(|file| (file.name != "model.onnx", file.name != "w.bin"));
        lie(&mut given.list);
        let scene = Scene::start(given, ROOM, usize::MAX).await;
        until("the list was asked for", || !scene.asked().is_empty()).await;
        a_while().await;
        assert_eq!(scene.asked(), [Asked::List], "{what}");
        assert!(scene.kept().is_empty(), "{what}: {:?}", scene.kept());
        let state = scene.shelf().parent().unwrap().to_owned();
        assert!(!names(&state).iter().any(|name| name.contains("evil")), "{what}");
        end(&scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_holds_for_all_files_together_before_one_is_made() {
    // By the advert alone, and by the list, which brings a model.toml.
    for (less, asked) in [(1_000, vec![]), (1, vec![Asked::List])] {
        let given = Given::honest(&["w.bin", "v.bin"]);
        let room = given.needed() - less;
        assert!((room < given.file_bytes) == asked.is_empty(), "what the case is about");
        let scene = Scene::start(given, room, usize::MAX).await;
        until("the hosts are linked", || scene.host.as_ref().unwrap().peers()[0].usable).await;
        a_while().await;
        assert_eq!(scene.asked(), asked);
        assert!(scene.kept().is_empty());
        end(&scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_what_they_should_be_are_not_served() {
    type Lie = fn(&mut Given);
    let lies: [(&str, Lie); 4] = [
        ("another content than was listed", |g| {
            let file = g.list.files[1].digest;
            g.content.get_mut(&file).unwrap()[5] ^= 1;
        }),
        ("weights of another model", |g| {
            let (file, mut content) = (g.list.files.pop().unwrap(), g.content.clone());
            let mut other = content.remove(&file.digest).unwrap();
            other[5] ^= 1;
            g.file_bytes -= file.bytes;
            g.add(&file.name, other);
        }),
        ("a file that the model does not name", |g| g.add("x.bin", vec![1; 10])),
        ("a file that the model names is missing", |g| {
            let file = g.list.files.pop().unwrap();
            g.file_bytes -= file.bytes;
        }),
    ];
    for (what, lie) in lies {
        let mut given = Given::honest(&["w.bin"]);
        lie(&mut given);
        let last = given.list.files.last().unwrap().name.clone();
        let digest = bps_types::hex(&given.list.digest);
        let scene = Scene::start(given, ROOM, usize::MAX).await;
        let reached = || scene.asked().iter().any(|asked| matches!(asked, Asked::Piece(name, _) if *name == last));
        until("it has come to the last file", reached).await;
        a_while().await;
        assert!(!scene.kept().contains(&digest), "{what}: it is not where whole models are");
        end(&scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calibration_of_another_model_is_not_used_and_the_model_serves() {
    let bound_to = |digest: [u8; 32]| Package::new(digest, vec![]).unwrap().to_bytes().unwrap();
    let honest = Given::honest(&["w.bin"]);
    let digest = honest.list.digest;
    for (package, is_used) in [(bound_to(digest), true), (bound_to([3; 32]), false), (b"no package".to_vec(), false)] {
        let mut given = honest.clone();
        given.add("model.ff", package);
        let scene = Scene::start(given, ROOM, usize::MAX).await;
        until("it is served", || scene.is_fetched()).await;
        until("the host says so", || scene.calibration().is_some()).await;
        assert_eq!(scene.calibration() != Some([0; 32]), is_used);
        let host = scene.host.as_ref().unwrap();
        settled(host).await;
        host.drain().await;
    }
}
