//! What two hosts compute together is what one computes alone.

use super::stand::{Two, Wish};
use crate::stand::{assert_close, call, device, image, infer, settled, until, values};
use bps_engine::Engine;
use bps_node::InferCall;
use bps_transport::{CarrierChoice, Quotas, Rights};
use bps_types::{DataType, HostTensor, Nanos, Trace};

#[tokio::test(flavor = "multi_thread")]
async fn a_split_at_any_cut_equals_the_whole_bit_for_bit() {
    for carrier in [CarrierChoice::Tcp, CarrierChoice::Quic] {
        let two = Two::start(Wish { carrier, ..Wish::default() }).await;
        let cuts = two.edge.model("digits", None).unwrap().cut_count;
        let whole = values(&infer(&two.edge, image(3, 5)).await.unwrap());
        for cut in 0..cuts - 1 {
            for codec in [0, 1] {
                two.split(cut, codec, 0).await;
                let split = values(&infer(&two.edge, image(3, 5)).await.unwrap());
                assert_eq!(split, whole, "{carrier:?}, cut {cut}, codec {codec}");
                assert_eq!(two.executed_there(1), 1, "{carrier:?}, cut {cut}: it did go there");
            }
        }
        settled(&two.edge).await;
    }
}

/// Largest difference of outputs, measured by the largest output, where layers before a cut run on one kind of device and
/// those after it on another: kernels add up in another order.
const UNLIKE_MAX: f32 = 1e-5;

#[tokio::test(flavor = "multi_thread")]
async fn a_split_over_unlike_kinds_of_devices_is_the_whole_within_rounding() {
    if let Err(reason) = Engine::start(&[device("software")]) {
        eprintln!("skipped a_split_over_unlike_kinds_of_devices_is_the_whole_within_rounding: {reason}");
        return;
    }
    for (edge, server) in [("cpu", "software"), ("software", "cpu")] {
        // Kernels are compiled at their first use, which takes longer than a host is usually waited for.
        let sched = |config: &mut bps_sched::Config| config.remote_timeout_floor = Nanos::from_secs(60);
        let two = Two::start(Wish { edge, server, sched, ..Wish::default() }).await;
        let cuts = two.edge.model("digits", None).unwrap().cut_count;
        let whole = values(&infer(&two.edge, image(3, 5)).await.unwrap());
        let largest = whole.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for cut in 0..cuts - 1 {
            two.split(cut, 0, 0).await;
            let split = values(&infer(&two.edge, image(3, 5)).await.unwrap());
            assert_eq!(two.executed_there(1), 1, "{edge} to {server}, cut {cut}: it did go there");
            let apart = whole.iter().zip(&split).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
            assert!(apart <= UNLIKE_MAX, "{edge} to {server}, cut {cut}: {apart:e}");
        }
        settled(&two.edge).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_hosts_have_a_receipt_with_the_same_trace() {
    let two = Two::start(Wish::default()).await;
    let server = two.server.as_ref().unwrap();
    two.split(2, 1, 0).await;
    assert!(server.receipts(10).is_empty(), "nothing was executed there yet");
    let clients = Trace { trace_id: [0xab; 16], span_id: [0xcd; 8], flags: 0 };
    for (count, trace) in [(1, Some(clients)), (2, None)] {
        two.edge.infer(InferCall { trace, ..call(&two.edge, image(3, 5)) }).await.unwrap();
        // The answer may be there before the server has written down what it did.
        until("the server has its receipt", || server.receipts(10).len() == count).await;
        let (own, guest) = (two.edge.receipts(1)[0].clone(), server.receipts(1)[0].clone());
        assert!(own.trace.is_some() && trace.is_none_or(|sent| own.trace == Some(sent)), "{own:?}");
        assert_eq!(own.trace, guest.trace, "one that is made up as well");
        assert!(own.is_own() && guest.for_hosts.iter().map(|h| &**h).eq(["edge"]), "{own:?}\n{guest:?}");
        assert_eq!((guest.requests, guest.rows, &*guest.model), (1, 5, "digits"));
        let (there, here) = (&own.stages[1], &guest.stages[0]);
        assert_eq!((&*there.on, &*here.on, &here.via), ("server/cpu", "cpu", &there.via));
        assert_eq!((there.from_cut, there.until_cut), (here.from_cut, here.until_cut));
        assert_eq!((there.measured, there.waited), (here.measured, here.waited), "what the helper says of itself");
        assert!(here.waited >= Some(guest.wait) && own.stages[0].waited.is_none(), "{own:?}\n{guest:?}");
    }
    let (guests, metrics) = (server.ledger().guests, server.render_metrics());
    assert_eq!((guests.executions, guests.rows, server.receipts(10).len()), (2, 10, 2));
    for line in ["bps_guest_executions_total 2", "bps_guest_rows_total 10"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    settled(&two.edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lossy_codecs_stay_close_and_send_less() {
    let two = Two::start(Wish::default()).await;
    let cut = two.edge.model("digits", None).unwrap().cut_count / 2;
    let whole = values(&infer(&two.edge, image(3, 5)).await.unwrap());
    let mut sent = Vec::new();
    for codec in [0, 2, 4] {
        two.split(cut, codec, 0).await;
        let split = values(&infer(&two.edge, image(3, 5)).await.unwrap());
        let largest = whole.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (a, b) in whole.iter().zip(&split) {
            assert!((a - b).abs() < 0.05 * largest.max(1.0), "codec {codec}: {a} became {b}");
        }
        sent.push(two.edge.receipts(1)[0].bytes);
    }
    assert!(sent.windows(2).all(|w| w[1] < w[0]), "{sent:?}");
    settled(&two.edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_travel_with_every_codec_as_bytes_and_as_numbers() {
    let two = Two::start(Wish::default()).await;
    let pixels: Vec<u8> = (0..128).map(|i| (128.0 + 100.0 * (i as f32 / 9.0).sin()) as u8).collect();
    let bytes = HostTensor::new(DataType::Uint8, vec![2, 8, 8, 1], pixels.into()).unwrap();
    for input in [bytes, image(3, 2)] {
        let whole = values(&infer(&two.edge, input.clone()).await.unwrap());
        let largest = whole.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // Without a calibration.
        for codec in bps_codec::codecs().iter().filter(|codec| codec.id != bps_codec::ff::ID_CANCELLING) {
            two.split(0, codec.id, codec.rates.last().copied().filter(|_| codec.for_input).unwrap_or(0)).await;
            let there = values(&infer(&two.edge, input.clone()).await.unwrap());
            for (a, b) in whole.iter().zip(&there) {
                let near = (a - b).abs() < 0.3 * largest.max(1.0);
                assert!(near, "{} {}: {a} became {b}", input.data_type(), codec.name);
            }
            assert_eq!(two.executed_there(1), 1, "{}: {:?}", codec.name, two.edge.receipts(1));
        }
    }
    settled(&two.edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ff_travels_calibrated_where_both_hosts_have_the_same_and_without_elsewhere() {
    // By cut: the input, which is encoded away from the device, and a value behind a layer.
    let mut sent = [Vec::new(), Vec::new()];
    for calibrated in [[true, true], [true, false], [false, false]] {
        let two = Two::start(Wish { calibrated, ..Wish::default() }).await;
        let whole = values(&infer(&two.edge, image(3, 5)).await.unwrap());
        let largest = whole.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (cut, sent) in [0, 4].into_iter().zip(&mut sent) {
            two.split(cut, bps_codec::ff::ID_HAAR, 4).await;
            let split = values(&infer(&two.edge, image(3, 5)).await.unwrap());
            for (a, b) in whole.iter().zip(&split) {
                assert!((a - b).abs() < 0.1 * largest.max(1.0), "{calibrated:?}, cut {cut}: {a} became {b}");
            }
            let receipt = two.edge.receipts(1)[0].clone();
            assert_eq!(two.executed_there(1), 1, "{calibrated:?}, cut {cut}: {receipt:?}");
            assert!(receipt.stages.iter().any(|s| s.via.as_deref() == Some("ff-h")), "{receipt:?}");
            sent.push(receipt.bytes);
            // Errors cancel where both know along which directions; elsewhere nobody may ask for it.
            let refused = two.edge.ledger().invalid_rows;
            two.split(cut, bps_codec::ff::ID_CANCELLING, 4).await;
            let cancelling = values(&infer(&two.edge, image(3, 5)).await.unwrap());
            let are_near = whole.iter().zip(&cancelling).all(|(a, b)| (a - b).abs() < 0.2 * largest.max(1.0));
            assert!(are_near, "{calibrated:?}, cut {cut}");
            let receipt = two.edge.receipts(1)[0].clone();
            let went = receipt.stages.iter().any(|s| s.via.as_deref() == Some("ff-c"));
            let said_no = two.edge.ledger().invalid_rows > refused;
            assert_eq!((went, said_no), (calibrated == [true, true], calibrated != [true, true]), "{receipt:?}");
        }
        settled(&two.edge).await;
    }
    // Times in messages take a byte more or less; an input of 320 numbers leaves little room to differ.
    for (sent, least) in sent.into_iter().zip([8, 32]) {
        eprintln!("bytes: {sent:?}");
        assert!(sent[0].abs_diff(sent[1]) > least, "frames with a calibration are others: {sent:?}");
        assert!(sent[1].abs_diff(sent[2]) < 8, "one host alone has no use for it: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_company_get_their_own_rows() {
    let two = Two::start(Wish::default()).await;
    let expected: Vec<_> = {
        let mut all = Vec::new();
        for seed in 0..24 {
            all.push(values(&infer(&two.edge, image(seed, 1 + seed % 3)).await.unwrap()));
        }
        all
    };
    two.split(2, 0, 0).await;
    let together: Vec<_> = (0..24)
        .map(|seed| {
            let edge = two.edge.clone();
            tokio::spawn(async move { infer(&edge, image(seed, 1 + seed % 3)).await.unwrap() })
        })
        .collect();
    for (expected, reply) in expected.iter().zip(together) {
        assert_close(expected, &values(&reply.await.unwrap()));
    }
    assert!(two.executed_there(100) > 0);
    assert_eq!(settled(&two.edge).await.answered, 48);
    let server = two.server.as_ref().unwrap();
    until("the server has let go of all guests", || {
        let guests = server.ledger().guests;
        guests.returned > 0 && guests.waiting + guests.running == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_model_is_fetched_and_used() {
    let two = Two::start(Wish { server_has_model: false, manifest: "exportable = true", ..Wish::default() }).await;
    until("the server has the model", || two.edge.peers().iter().any(|p| !p.models_shared.is_empty())).await;
    two.split(1, 0, 0).await;
    infer(&two.edge, image(1, 2)).await.unwrap();
    assert_eq!(two.executed_there(1), 1);
    settled(&two.edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_leave_does_not() {
    let kept = [
        Wish { manifest: "[placement]\nlocal_only = true", ..Wish::default() },
        Wish { rights: Rights { execute: false, fetch_models: true }, ..Wish::default() },
        Wish { manifest: "exportable = false", server_has_model: false, ..Wish::default() },
    ];
    for wish in kept {
        let what = format!("{} {:?}", wish.manifest, wish.rights);
        let two = Two::start(wish).await;
        two.split(1, 0, 0).await;
        infer(&two.edge, image(1, 2)).await.unwrap();
        assert_eq!(two.executed_there(10), 0, "{what}");
        settled(&two.edge).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_is_no_loss() {
    let quotas = Quotas { window: 1, bytes_max: 600 };
    let two = Two::start(Wish { quotas, ..Wish::default() }).await;
    two.split(0, 0, 0).await;
    let all: Vec<_> = (0..30)
        .map(|seed| {
            let edge = two.edge.clone();
            tokio::spawn(async move { infer(&edge, image(seed, 1)).await.unwrap() })
        })
        .collect();
    for reply in all {
        reply.await.unwrap();
    }
    assert_eq!(settled(&two.edge).await.answered, 30);
}
