//! Models that come and go.

use crate::stand::{call, config, digits, image, infer, settled, start, start_slow, until};
use bps_graph::topology::{Topology, make};
use bps_node::{Host, ModelState, ProfileChoice, ServeError};
use std::path::Path;

fn put(root: &Path, inner: &str, seed: u64) {
    std::fs::create_dir_all(root.join(inner)).unwrap();
    std::fs::write(root.join(inner).join("model.onnx"), make(Topology::DigitsNet, seed)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unloading_under_traffic_drains() {
    let host = start_slow(|_| {}).await;
    let replies: Vec<_> = (0..24)
        .map(|seed| {
            let host = host.clone();
            tokio::spawn(async move { infer(&host, image(seed, 1)).await })
        })
        .collect();
    until("they are there", || host.ledger().submitted == 24).await;
    let one = call(&host, image(1, 1));
    host.unload_model("digits").await.unwrap();
    for reply in replies {
        reply.await.unwrap().expect("what was taken is answered");
    }
    let error = host.infer(one.clone()).await.unwrap_err();
    assert!(matches!(error, ServeError::Unavailable(_)), "{error:?}");
    assert_eq!(host.index()[0].state, ModelState::Unavailable);
    host.load_model("digits").await.unwrap();
    host.infer(one).await.expect("served again");
    assert_eq!(settled(&host).await.answered, 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloading_under_traffic_loses_nothing() {
    let host = start(|_| {}).await;
    let traffic: Vec<_> = (0..4)
        .map(|client| {
            let host = host.clone();
            let one = call(&host, image(client, 1));
            tokio::spawn(async move {
                for _ in 0..100 {
                    host.infer(one.clone()).await.expect("answered by the old one or the new one");
                }
            })
        })
        .collect();
    for _ in 0..3 {
        host.load_model("digits").await.unwrap();
    }
    for client in traffic {
        client.await.unwrap();
    }
    assert_eq!(settled(&host).await.answered, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_with_versions_and_a_broken_model() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "digits/1", 1);
    put(root.path(), "digits/3", 3);
    put(root.path(), "spoiled", 1);
    std::fs::write(root.path().join("spoiled/model.toml"), "batch_max = 0\n").unwrap();
    std::fs::create_dir(root.path().join("garbage")).unwrap();
    std::fs::write(root.path().join("garbage/model.onnx"), b"not a model").unwrap();
    let host = start(|c| {
        c.models = vec![root.path().into()];
        c.builtin_models.clear();
    })
    .await;
    let view = host.model("digits", None).unwrap();
    assert_eq!((view.version.as_str(), view.versions), ("3", vec!["1".to_owned(), "3".into()]));
    let reasons: Vec<(String, ModelState, String)> =
        host.index().into_iter().map(|e| (format!("{}/{}", e.name, e.version), e.state, e.reason)).collect();
    let state = |name: &str| reasons.iter().find(|(n, ..)| n == name).unwrap().clone();
    assert_eq!(state("digits/1").1, ModelState::Ready);
    assert_eq!(state("garbage/1").1, ModelState::Unavailable);
    let spoiled = state("spoiled/1");
    assert!(spoiled.1 == ModelState::Unavailable && spoiled.2.contains("model.toml"), "{spoiled:?}");
    infer(&host, image(1, 1)).await.unwrap();

    // A file that goes bad does not take down what serves.
    std::fs::write(root.path().join("digits/3/model.onnx"), b"bad").unwrap();
    host.load_model("digits").await.unwrap_err();
    assert_eq!(infer(&host, image(1, 1)).await.unwrap().version, "3");
    std::fs::remove_dir_all(root.path().join("digits/3")).unwrap();
    host.load_model("digits").await.unwrap();
    assert_eq!(infer(&host, image(1, 1)).await.unwrap().version, "1");
    assert!(matches!(host.load_model("nobody").await, Err(ServeError::NotFound(_))));
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn placement_that_allows_no_device_is_told() {
    for placement in ["allow = [\"gpu\"]", "deny = [\"*\"]", "deny = [\"c*\"]"] {
        let model = digits("digits", &format!("placement = {{ {placement} }}"));
        let host = start(|c| c.builtin_models = vec![model]).await;
        assert!(host.index()[0].reason.contains("allows none of this host's devices"), "{:?}", host.index());
        settled(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_measured_once_and_kept() {
    let state = tempfile::tempdir().unwrap();
    let profiles = || std::fs::read_dir(state.path().join("profiles")).unwrap().map(|e| e.unwrap().path());
    let make = async |choice: ProfileChoice| {
        let mut config = config();
        config.state_dir = Some(state.path().into());
        config.profile = choice;
        Host::start(config).await.unwrap()
    };
    let host = make(ProfileChoice::Quick).await;
    assert!(host.model("digits", None).unwrap().measured);
    let kept: Vec<_> = profiles().collect();
    assert_eq!(kept.len(), 1);
    settled(&host).await;
    host.drain().await;
    let host = make(ProfileChoice::Cached).await;
    assert!(host.model("digits", None).unwrap().measured, "read back");
    host.drain().await;
    std::fs::write(&kept[0], b"{\"device\": 3}").unwrap();
    let host = make(ProfileChoice::Cached).await;
    assert!(!host.model("digits", None).unwrap().measured, "a damaged one is not used");
    infer(&host, image(1, 1)).await.unwrap();
    settled(&host).await;
}
