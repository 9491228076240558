//! Any message that keeps the bounds.

use bps_types::policy::{DeviceKind, TableKind};
use bps_types::{DataType, Nanos, Packed};
use bps_wire::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

prop_compose! {
    fn packed()(
        codec: u8, rate: u8, kind in 0..DataType::ALL.len(), shape in vec(0usize..40, 0..=4), data in vec(any::<u8>(), 0..300),
    ) -> Packed {
        Packed { codec, rate, data_type: DataType::ALL[kind], shape, data: data.into() }
    }
}

prop_compose! {
    fn report()(host: [u8; 32], device: u32, times: [u64; 3], batch_rows: u32) -> StageReport {
        let [arrived, began, elapsed] = times.map(Nanos);
        StageReport { host: HostKey(host), device, arrived, began, elapsed, batch_rows }
    }
}

prop_compose! {
    /// Stages that follow each other; the last may end at the model's output.
    fn route()(
        first in 0u32..100, lengths in vec((1u32..50, any::<[u8; 32]>(), any::<u32>(), any::<[u8; 2]>()), 1..=8), ends: bool,
    ) -> Vec<Route> {
        let mut from_cut = first;
        let stage = |(length, host, device, [codec, rate]): (u32, [u8; 32], u32, [u8; 2])| {
            let until_cut = from_cut + length;
            let route = Route { host: HostKey(host), device, from_cut, until_cut, codec, rate };
            from_cut = until_cut;
            route
        };
        let mut route: Vec<Route> = lengths.into_iter().map(stage).collect();
        route.last_mut().filter(|_| ends).into_iter().for_each(|last| last.until_cut = OUTPUT_CUT);
        route
    }
}

prop_compose! {
    fn execute()(
        dispatch: u64, keys: [[u8; 32]; 3], route in route(), rows in 1u32..=ROWS_MAX, budget in option::of(any::<u64>()),
        priority: u8, ids: ([u8; 16], [u8; 8], u8), reports in vec(report(), 0..=8), tensors in vec(packed(), 1..6),
    ) -> Message {
        let trace = Trace { trace_id: ids.0, span_id: ids.1, flags: ids.2 };
        let [origin, model, cut_list] = keys;
        Message::Execute(Execute {
            dispatch, origin: HostKey(origin), model, cut_list, route, rows, budget: budget.map(Nanos), priority, trace,
            reports, tensors,
        })
    }
}

prop_compose! {
    fn answer()(
        dispatch: u64, reports in vec(report(), 0..=8), tensors in vec(packed(), 0..6), denied: bool, message in ".{0,60}",
    ) -> Message {
        let denied = denied.then_some(Denied { kind: DeniedKind::Lost, message });
        Message::Answer(Answer { dispatch, reports, outcome: denied.map_or(Ok(tensors), Err) })
    }
}

prop_compose! {
    fn model()(
        digests: [[u8; 32]; 3], name in ".{0,40}", exportable: bool, file_bytes: u64, batch_max: u32,
        devices in vec(any::<u32>(), 0..64), values in vec(0f32..1e12, 0..200), device: u32, measured: bool,
    ) -> AdvertModel {
        let shape = vec![1, values.len() as u32];
        let table = AdvertTable { device, codec: 0, kind: TableKind::StageNanos, measured, shape, values };
        let [digest, cut_list, calibration] = digests;
        AdvertModel { digest, cut_list, calibration, name, exportable, file_bytes, batch_max, devices, tables: vec![table] }
    }
}

prop_compose! {
    fn advert()(
        epoch: u32, window: u32, models in vec(model(), 0..5), peers in vec(any::<[u8; 32]>(), 0..9),
        devices in vec((any::<u32>(), ".{0,40}", option::of(any::<u64>())), 0..=DEVICES_MAX), codecs in vec((any::<u8>(), "[a-z0-9-]{0,20}"), 0..9),
    ) -> Message {
        let device = |(index, name, memory_bytes)| AdvertDevice { index, name, kind: DeviceKind::Cpu, memory_bytes };
        Message::Advert(Advert {
            epoch,
            devices: devices.into_iter().map(device).collect(),
            models,
            codecs: codecs.into_iter().map(|(id, name)| AdvertCodec { id, name }).collect(),
            peers: peers.into_iter().map(HostKey).collect(),
            window,
        })
    }
}

prop_compose! {
    fn standing()(
        epoch: u32, devices in vec((any::<u32>(), any::<bool>(), any::<u64>(), any::<u32>(), option::of(any::<u64>())), 0..=DEVICES_MAX),
        links in vec((any::<[u8; 32]>(), any::<bool>(), 0f32..1e12, any::<u64>(), any::<u64>()), 0..9),
    ) -> Message {
        let device = |(index, up, backlog, running, memory_free)| DeviceReport { index, up, backlog: Nanos(backlog), running, memory_free };
        let link = |(to, up, bytes_per_second, rtt, backlog_bytes)| LinkReport {
            to: HostKey(to), up, bytes_per_second, rtt: Nanos(rtt), backlog_bytes,
        };
        Message::Standing(Standing {
            epoch,
            devices: devices.into_iter().map(device).collect(),
            links: links.into_iter().map(link).collect(),
        })
    }
}

prop_compose! {
    fn part()(digest: [u8; 32], file: [u8; 32], offset in 0u64..1 << 40, data in vec(any::<u8>(), 0..500)) -> Message {
        Message::ModelPart(ModelPart { digest, file, offset, data: data.into() })
    }
}

prop_compose! {
    /// Names are not looked at on the wire.
    fn list()(
        digest: [u8; 32], manifest in ".{0,99}", files in vec((".{0,30}", any::<u64>(), any::<[u8; 32]>()), 1..20),
    ) -> Message {
        let files = files.into_iter().map(|(name, bytes, digest)| ModelFile { name, bytes, digest }).collect();
        Message::ModelList(ModelList { digest, manifest, files })
    }
}

/// Any message that keeps the bounds.
pub(crate) fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        advert(),
        standing(),
        any::<(u64, u64)>().prop_map(|(token, at)| Message::Ping { token, at: Nanos(at) }),
        any::<(u64, u64, u64)>().prop_map(|(token, asked, at)| Message::Pong {
            token,
            asked: Nanos(asked),
            at: Nanos(at)
        }),
        any::<[u64; 4]>().prop_map(|[received, waived, busy_bytes, busy]| {
            Message::Progress(Progress { received, waived, busy_bytes, busy: Nanos(busy) })
        }),
        execute(),
        answer(),
        any::<u64>().prop_map(|dispatch| Message::Recall { dispatch }),
        any::<[u8; 32]>().prop_map(|digest| Message::ListWanted(ListWanted { digest })),
        list(),
        (any::<[[u8; 32]; 2]>(), any::<u64>(), 1u32..).prop_map(|([digest, file], offset, bytes)| {
            Message::ModelWanted(ModelWanted { digest, file, offset, bytes })
        }),
        part(),
        (any::<[u8; 32]>(), ".{0,99}")
            .prop_map(|(digest, message)| Message::ModelDenied(ModelDenied { digest, message })),
        ".{0,50}".prop_map(|reason| Message::Bye { reason }),
    ]
}
