//! A fetch that was interrupted goes on where it was, file by file; and one of which a part is another by now.

use super::giver::{Asked, Given, PIECE_BYTES, Scene};
use crate::stand::{settled, until};
use bps_codec::ff::Package;
use sha2::{Digest, Sha256};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_in_the_middle_of_the_second_file() {
    // Weights and biases take turns; so both files hold some of either.
    let given = Given::honest(&["a.bin", "a.bin", "b.bin"]);
    let names: Vec<String> = given.list.files.iter().map(|file| file.name.clone()).collect();
    assert_eq!(names, ["model.onnx", "a.bin", "b.bin"]);
    let pieces = |index: usize| (given.list.files[index].bytes as usize).div_ceil(PIECE_BYTES);
    assert!(pieces(1) > 2, "so that there is a middle: {}", given.list.files[1].bytes);
    let (first, before) = (pieces(0), pieces(0) + 2);
    let mut scene = Scene::start(given, 1 << 30, before).await;
    let middle = Asked::Piece("a.bin".into(), 2 * PIECE_BYTES as u64);
    until("the giver is silent", || scene.asked().last() == Some(&middle)).await;
    assert_eq!(scene.asked().len(), 1 + first + 3, "{:?}", scene.asked());
    assert!(!scene.is_fetched());

    scene.restart().await;
    until("it is served", || scene.is_fetched()).await;
    let asked = scene.asked();
    assert_eq!(asked[..2], [Asked::List, middle]);
    let again = |asked: &Asked| matches!(asked, Asked::Piece(name, _) if name == "model.onnx");
    assert!(!asked.iter().any(again), "{asked:?}");

    // What is whole is not asked for again.
    scene.restart().await;
    until("it is served", || scene.is_fetched()).await;
    assert_eq!(scene.asked(), []);
    let host = scene.host.as_ref().unwrap();
    settled(host).await;
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: a failure is left alone for so long"]
async fn a_calibration_that_did_not_come_is_asked_for_again_and_the_model_serves_meanwhile() {
    let scene = Scene::start(Given::honest(&["w.bin"]), 1 << 30, usize::MAX).await;
    until("it is served", || scene.is_fetched()).await;
    let package = Package::new(scene.digest(), vec![]).unwrap().to_bytes().unwrap();
    let digest: [u8; 32] = Sha256::digest(&package).into();
    let wrong = vec![1; package.len()];
    scene.change(|given| {
        given.add("model.ff", package.clone());
        given.content.insert(digest, wrong);
    });
    until("it was asked for", || scene.asked().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(scene.is_fetched() && scene.calibration() == Some([0; 32]));
    assert_eq!(scene.asked().len(), 2);
    scene.change(|given| drop(given.content.insert(digest, package)));
    let begun = std::time::Instant::now();
    while scene.calibration() != Some(digest) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", scene.asked());
        assert!(scene.is_fetched());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let host = scene.host.as_ref().unwrap();
    settled(host).await;
    host.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calibration_that_is_made_later_comes_alone() {
    let mut scene = Scene::start(Given::honest(&["w.bin"]), 1 << 30, usize::MAX).await;
    until("it is served", || scene.is_fetched()).await;
    until("the host says so", || scene.calibration() == Some([0; 32])).await;
    let asked = [Asked::List, Asked::Piece("model.ff".into(), 0)];
    let digest = scene.digest();
    let package = Package::new(digest, vec![]).unwrap().to_bytes().unwrap();
    scene.change(|given| given.add("model.ff", package.clone()));
    until("the host has it", || scene.calibration() == Some(Sha256::digest(&package).into())).await;
    assert_eq!(scene.asked(), asked);

    // One that cannot be used is tried once, and the model serves without.
    scene.change(|given| {
        let file = given.list.files.pop().unwrap();
        given.file_bytes -= file.bytes;
        given.add("model.ff", b"no package".to_vec());
    });
    until("the host serves without", || scene.calibration() == Some([0; 32]) && scene.is_fetched()).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(scene.asked(), asked);
    scene.restart().await;
    until("it is served", || scene.is_fetched()).await;
    let host = scene.host.as_ref().unwrap();
    settled(host).await;
    host.drain().await;
}
