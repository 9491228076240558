//! Requests: good ones, contradictory ones, and those that get no answer.

use crate::stand::{assert_close, call, device, digits, image, infer, settled, start, start_slow, until, values};
use bps_node::{InferCall, NamedTensor, ServeError};
use bps_types::{DataType, HostTensor};
use bytes::Bytes;
use half::f16;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_equals_its_rows_one_by_one() {
    let host = start(|_| {}).await;
    let whole = infer(&host, image(3, 4)).await.unwrap();
    assert_eq!(whole.outputs[0].tensor.shape(), [4, 10]);
    for row in 0..4 {
        let one = infer(&host, image(3, 4).slice_rows(row..row + 1)).await.unwrap();
        assert_close(&values(&one), &values(&whole)[row * 10..row * 10 + 10]);
    }
    assert_eq!((whole.model.as_str(), whole.version.as_str()), ("digits", "1"));
    assert_eq!(settled(&host).await.answered, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_together_get_their_own_rows() {
    let host = start_slow(|_| {}).await;
    let mut expected = Vec::new();
    for seed in 0..12 {
        expected.push(values(&infer(&host, image(seed, 1 + seed % 3)).await.unwrap()));
    }
    let together: Vec<_> = (0..12)
        .map(|seed| {
            let host = host.clone();
            tokio::spawn(async move { infer(&host, image(seed, 1 + seed % 3)).await.unwrap() })
        })
        .collect();
    let mut largest = 0;
    for (expected, reply) in expected.iter().zip(together) {
        let reply = reply.await.unwrap();
        largest = largest.max(reply.timings.batch_rows);
        assert_close(expected, &values(&reply));
    }
    assert!(largest > 3, "some of them were executed together, at most {largest} rows");
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradictory_request_is_refused_with_its_reason() {
    let host = start(|c| c.body_bytes_max = 64 << 10).await;
    let name = host.model("digits", None).unwrap().inputs[0].name.clone();
    let named = |name: &str, tensor: HostTensor| NamedTensor { name: name.into(), tensor };
    let fp32 = |shape: &[usize]| {
        let count = shape.iter().product();
        HostTensor::from_f32(shape.to_vec(), &vec![0.5; count]).unwrap()
    };
    let int64 = HostTensor::new(DataType::Int64, vec![1, 1, 8, 8], Bytes::from(vec![0; 512])).unwrap();
    let pixels = HostTensor::new(DataType::Uint8, vec![1, 8, 9, 1], Bytes::from(vec![0; 72])).unwrap();
    let cases: Vec<(Vec<NamedTensor>, &str)> = vec![
        (vec![], "needs input"),
        (vec![named("nobody", fp32(&[1, 1, 8, 8]))], "has no input nobody"),
        (vec![named(&name, fp32(&[1, 1, 8, 8])), named(&name, fp32(&[1, 1, 8, 8]))], "twice"),
        (vec![named(&name, fp32(&[1, 1, 8, 9]))], "takes FP32[-1, 1, 8, 8]"),
        (vec![named(&name, fp32(&[1, 64]))], "got FP32[1, 64]"),
        (vec![named(&name, fp32(&[0, 1, 8, 8]))], "got no rows"),
        (vec![named(&name, fp32(&[33, 1, 8, 8]))], "takes at most 32 rows"),
        (vec![named(&name, int64)], "got INT64[1, 1, 8, 8]"),
        (vec![named(&name, pixels)], "or UINT8[-1, 8, 8, 1]"),
    ];
    for (inputs, expected) in cases {
        let error = host.infer(InferCall { model: "digits".into(), inputs, ..InferCall::default() }).await.unwrap_err();
        assert!(matches!(error, ServeError::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut large = call(&host, fp32(&[512, 1, 8, 8]));
    let error = host.infer(large.clone()).await.unwrap_err();
    assert_eq!(error, ServeError::TooLarge { what: "the request".into(), got: 131_072, max: 65_536 });
    large.inputs = call(&host, image(1, 1)).inputs;
    large.outputs = vec!["nothing".into()];
    assert!(host.infer(large).await.unwrap_err().to_string().contains("has no output nothing"));
    assert_eq!(settled(&host).await.submitted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_models_and_versions_are_not_found() {
    let host = start(|_| {}).await;
    let call = call(&host, image(1, 1));
    for (model, version) in [("nobody", None), ("digits", Some("2")), ("digits", Some("x"))] {
        let call = InferCall { model: model.into(), version: version.map(str::to_owned), ..call.clone() };
        let error = host.infer(call).await.unwrap_err();
        assert!(matches!(error, ServeError::NotFound(_)), "{error:?}");
    }
    let call = InferCall { version: Some("1".into()), ..call };
    assert_eq!(host.infer(call).await.unwrap().version, "1");
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_a_number_is_answered() {
    let host = start(|_| {}).await;
    let tensor = HostTensor::from_f32(vec![1, 1, 8, 8], &[f32::NAN; 64]).unwrap();
    let reply = infer(&host, tensor).await.unwrap();
    assert!(values(&reply).iter().all(|v| v.is_nan()));
    assert!(values(&infer(&host, image(1, 1)).await.unwrap()).iter().all(|v| v.is_finite()), "and harms nobody else");
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_are_widened_and_outputs_chosen() {
    let host = start(|_| {}).await;
    let exact = image(5, 2);
    let halves: Vec<f16> = exact.to_f32().unwrap().into_iter().map(f16::from_f32).collect();
    let rounded: Vec<f32> = halves.iter().map(|h| h.to_f32()).collect();
    let bytes: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
    let halves = HostTensor::new(DataType::Fp16, vec![2, 1, 8, 8], bytes.into()).unwrap();
    let output = host.model("digits", None).unwrap().outputs[0].name.clone();
    let reply = host.infer(InferCall { outputs: vec![output.clone()], ..call(&host, halves) }).await.unwrap();
    let expected = infer(&host, HostTensor::from_f32(vec![2, 1, 8, 8], &rounded).unwrap()).await.unwrap();
    assert_close(&values(&reply), &values(&expected));
    assert_eq!((reply.outputs.len(), reply.outputs[0].name.as_str()), (1, output.as_str()));
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let host = start_slow(|c| c.builtin_models = vec![digits("digits", "queue_max = 3\nbatch_max = 1")]).await;
    let replies: Vec<_> = (0..40)
        .map(|seed| {
            let host = host.clone();
            tokio::spawn(async move { infer(&host, image(seed, 1)).await })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for reply in replies {
        match reply.await.unwrap() {
            Ok(_) => answered += 1,
            Err(ServeError::Unavailable(reason)) => {
                assert!(reason.contains("queue of model digits is full"), "{reason}");
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    let ledger = settled(&host).await;
    assert!(answered >= 3 && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!((ledger.answered, ledger.refused), (answered, refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_holds_enough_refuses() {
    let host = start_slow(|c| c.requests_max = 2).await;
    let held: Vec<_> = (0..2)
        .map(|seed| {
            let host = host.clone();
            tokio::spawn(async move { infer(&host, image(seed, 1)).await })
        })
        .collect();
    until("both are held", || host.ledger().submitted == 2).await;
    let third = infer(&host, image(9, 1)).await;
    let first_two_ended = host.ledger().answered > 0;
    assert!(first_two_ended || matches!(third, Err(ServeError::Unavailable(_))), "{third:?}");
    for reply in held {
        reply.await.unwrap().unwrap();
    }
    settled(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_is_told_and_counted() {
    let host = start(|c| c.devices = vec![device("cpu,slowdown=1000")]).await;
    let first = tokio::spawn({
        let host = host.clone();
        async move { infer(&host, image(1, 32)).await }
    });
    until("the first runs", || host.ledger().running == 1).await;
    let call = InferCall { timeout: Some(Duration::from_millis(3)), ..call(&host, image(2, 1)) };
    let error = host.infer(call).await.unwrap_err();
    assert!(matches!(error, ServeError::Expired(_)), "{error:?}");
    first.await.unwrap().unwrap();
    let ledger = settled(&host).await;
    assert_eq!((ledger.answered, ledger.expired), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_cancels() {
    let host = start(|c| c.devices = vec![device("cpu,slowdown=1000")]).await;
    let task = |seed: usize| {
        let host = host.clone();
        tokio::spawn(async move { infer(&host, image(seed, 32)).await })
    };
    let (first, running, waiting) = (task(1), task(2), task(3));
    until("they are there", || host.ledger().submitted == 3).await;
    running.abort();
    waiting.abort();
    until("they are cancelled", || host.ledger().cancelled == 2).await;
    first.await.unwrap().unwrap();
    let ledger = settled(&host).await;
    assert_eq!((ledger.answered, ledger.cancelled), (1, 2));
    assert_eq!(host.model_stats(Some("digits"), None).unwrap()[0].inference_stats.fail.count, 2);
}
