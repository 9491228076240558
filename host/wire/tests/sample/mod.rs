//! One message of each kind, with every field in use.

use bps_types::policy::{DeviceKind, TableKind};
use bps_types::{DataType, Nanos, Packed};
use bps_wire::*;
use bytes::Bytes;

pub(crate) const LIMITS: Limits = Limits { frame_bytes_max: 1 << 20 };

pub(crate) fn bytes_of(encoded: &Encoded) -> Vec<u8> {
    encoded.parts.concat()
}

/// Fixed: what `golden.rs` pins and `damage.rs` damages.
pub(crate) fn one_of_each() -> Vec<Message> {
    let key = |n: u8| HostKey([n; 32]);
    let tensor = Packed {
        codec: 4,
        rate: 0,
        data_type: DataType::Fp32,
        shape: vec![2, 3],
        data: Bytes::from_static(b"\x01\x02\x03\x04\x05\x06"),
    };
    let report = StageReport {
        host: key(1),
        device: 2,
        arrived: Nanos(300),
        began: Nanos(400),
        elapsed: Nanos(500),
        batch_rows: 6,
    };
    let table = AdvertTable {
        device: 0,
        codec: 4,
        kind: TableKind::EncodeNanos,
        measured: true,
        shape: vec![2],
        values: vec![1.0, 2.5],
    };
    let model = AdvertModel {
        digest: [7; 32],
        cut_list: [8; 32],
        calibration: [9; 32],
        name: "digits".into(),
        exportable: true,
        file_bytes: 1_000,
        batch_max: 32,
        devices: vec![0],
        tables: vec![table],
    };
    vec![
        Message::Advert(Advert {
            epoch: 3,
            devices: vec![AdvertDevice {
                index: 0,
                name: "gpu".into(),
                kind: DeviceKind::Gpu,
                memory_bytes: Some(1 << 30),
            }],
            models: vec![model],
            codecs: vec![AdvertCodec { id: 4, name: "int8".into() }],
            peers: vec![key(9)],
            window: 8,
        }),
        Message::Standing(Standing {
            epoch: 3,
            devices: vec![DeviceReport {
                index: 0,
                up: true,
                backlog: Nanos(1_000),
                running: 1,
                memory_free: Some(1 << 20),
            }],
            links: vec![LinkReport {
                to: key(9),
                up: true,
                bytes_per_second: 1.25e7,
                rtt: Nanos(2_000_000),
                backlog_bytes: 200_000,
            }],
        }),
        Message::Ping { token: 11, at: Nanos(12) },
        Message::Pong { token: 11, asked: Nanos(12), at: Nanos(13) },
        Message::Progress(Progress { received: 1_000, waived: 10, busy_bytes: 900, busy: Nanos(80_000) }),
        Message::Execute(Execute {
            dispatch: 0x0102_0304_0506_0708,
            origin: key(1),
            model: [7; 32],
            cut_list: [8; 32],
            route: vec![Route { host: key(2), device: 1, from_cut: 3, until_cut: 5, codec: 4, rate: 0 }],
            rows: 2,
            budget: Some(Nanos(50_000_000)),
            priority: 1,
            trace: Trace { trace_id: [0xaa; 16], span_id: [0xbb; 8], flags: 1 },
            reports: vec![report],
            tensors: vec![tensor.clone()],
        }),
        Message::Answer(Answer { dispatch: 14, reports: vec![report], outcome: Ok(vec![tensor]) }),
        Message::Answer(Answer {
            dispatch: 14,
            reports: vec![],
            outcome: Err(Denied { kind: DeniedKind::Busy, message: "no credit".into() }),
        }),
        Message::Recall { dispatch: 14 },
        Message::ListWanted(ListWanted { digest: [7; 32] }),
        Message::ModelList(ModelList {
            digest: [7; 32],
            manifest: "export = true\n".into(),
            files: vec![
                ModelFile { name: "model.onnx".into(), bytes: 1_000, digest: [6; 32] },
                ModelFile { name: "w.bin".into(), bytes: 70_000, digest: [5; 32] },
            ],
        }),
        Message::ModelWanted(ModelWanted { digest: [7; 32], file: [5; 32], offset: 4_096, bytes: 65_536 }),
        Message::ModelPart(ModelPart {
            digest: [7; 32],
            file: [6; 32],
            offset: 300,
            data: Bytes::from_static(b"onnx"),
        }),
        Message::ModelDenied(ModelDenied { digest: [7; 32], message: "not exportable".into() }),
        Message::Bye { reason: "shutting down".into() },
    ]
}
