//! What is given, and what two hosts do with it.

use super::giver::{Given, Scene};
use crate::stand::{digits, image, infer, settled, spread, until, values, write_model};
use crate::two::stand::{Two, Wish};
use bps_wire::{ListWanted, Message, ModelList, ModelWanted};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Bytes of a dispatch that is split with FF, and how far what came of it is from the whole, measured by the largest output.
async fn split_with_ff(two: &Two) -> (u64, f32) {
    let whole = values(&infer(&two.edge, image(3, 5)).await.unwrap());
    two.split(4, bps_codec::ff::ID_HAAR, 4).await;
    let split = values(&infer(&two.edge, image(3, 5)).await.unwrap());
    let receipt = two.edge.receipts(1)[0].clone();
    assert_eq!(two.executed_there(1), 1, "{receipt:?}");
    assert!(receipt.stages.iter().any(|s| s.via.as_deref() == Some("ff-h")), "{receipt:?}");
    let largest = whole.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    settled(&two.edge).await;
    (receipt.bytes, whole.iter().zip(&split).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_several_files_is_fetched_with_its_calibration_and_split_with_ff() {
    let outside: &[&str] = &["w.bin", "v.bin"];
    let wish = |calibrated, server_has_model| Wish { outside, calibrated, server_has_model, ..Wish::default() };
    let mut sent = Vec::new();
    for (calibrated, server_has_model) in [([true, false], false), ([true, true], true), ([true, false], true)] {
        let two = Two::start(wish(calibrated, server_has_model)).await;
        until("the server has the model", || two.edge.peers().iter().any(|p| !p.models_shared.is_empty())).await;
        let (bytes, apart) = split_with_ff(&two).await;
        assert!(apart < 0.1, "{calibrated:?} {server_has_model}: {apart}");
        sent.push(bytes);
    }
    // Times in messages take a byte more or less.
    let [fetched, own, without] = sent[..] else { panic!("{sent:?}") };
    assert!(fetched.abs_diff(own) < 8, "the fetched calibration is as good as one's own: {sent:?}");
    assert!(fetched.abs_diff(without) > 32, "and frames are made with it: {sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_model_names_is_given_and_only_where_it_may_leave() {
    let root = TempDir::new().unwrap();
    let (onnx, outside) = spread(&digits("digits", "").onnx, &["w.bin"]);
    write_model(&root.path().join("free"), &onnx, &outside, "batch_max = 3");
    std::fs::write(root.path().join("free/secret.txt"), "not for you").unwrap();
    let (onnx, outside) = spread(&digits("digits", "").onnx, &["v.bin"]);
    write_model(&root.path().join("kept"), &onnx, &outside, "exportable = false");
    let mut scene = Scene::start_with(Given::honest(&["other.bin"]), 0, 0, vec![root.path().to_owned()]).await;
    until("the host has said what it has", || scene.advertised().len() == 2).await;
    let said = |scene: &Scene, name: &str| scene.advertised().into_iter().find(|m| m.name == name).unwrap();
    let (free, kept) = (said(&scene, "free"), said(&scene, "kept"));
    assert!(free.exportable && !kept.exportable);

    let list = scene.ask(Message::ListWanted(ListWanted { digest: free.digest })).await;
    let Message::ModelList(ModelList { digest, manifest, files }) = list else { panic!("{list:?}") };
    assert_eq!((digest, manifest.as_str()), (free.digest, "batch_max = 3"));
    assert_eq!(files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["model.onnx", "w.bin"]);
    assert_eq!(files.iter().map(|f| f.bytes).sum::<u64>(), free.file_bytes);
    let wanted = ModelWanted { digest: free.digest, file: files[1].digest, offset: 10, bytes: 20 };
    let part = scene.ask(Message::ModelWanted(wanted)).await;
    let Message::ModelPart(part) = part else { panic!("{part:?}") };
    let content = std::fs::read(root.path().join("free/w.bin")).unwrap();
    assert_eq!((part.file, part.offset, &part.data[..]), (files[1].digest, 10, &content[10..30]));

    let secret: [u8; 32] = Sha256::digest("not for you").into();
    let refused = [
        (Message::ModelWanted(ModelWanted { file: secret, ..wanted }), "no such file"),
        (Message::ModelWanted(ModelWanted { offset: files[1].bytes, ..wanted }), "not inside the file"),
        (Message::ListWanted(ListWanted { digest: kept.digest }), "does not leave its host"),
        (Message::ModelWanted(ModelWanted { digest: kept.digest, ..wanted }), "does not leave its host"),
        (Message::ListWanted(ListWanted { digest: [9; 32] }), "no such model"),
    ];
    for (question, reason) in refused {
        let answer = scene.ask(question).await;
        let Message::ModelDenied(denied) = answer else { panic!("{reason}: {answer:?}") };
        assert!(denied.message.contains(reason), "{reason}: {denied:?}");
    }
    let host = scene.host.as_ref().unwrap();
    settled(host).await;
    host.drain().await;
}
