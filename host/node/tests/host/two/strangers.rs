//! A host of another build, which numbers the cuts of the same file differently: played by the test over a real link. It has
//! whole models executed, and executes them; parts of one mean nothing between the two.

use crate::played::{Played, clock};
use crate::stand::{
    assert_close, chaos, config, device, digits, image, infer, no_probation, settled, start, until, values,
};
use bps_graph::build::ModelBuilder;
use bps_graph::topology::{Topology, make};
use bps_graph::{Graph, Limits};
use bps_node::{BuiltinModel, Host, HostConfig, InferCall, NamedTensor, PeersConfig, SharedModel, SwapRequest};
use bps_plugin::recording::{Reader, Record};
use bps_transport::{CarrierChoice, Happening, Rights, SendError, Transport};
use bps_types::policy::{DeviceKind, TABLE_BATCHES, TableKind};
use bps_types::{HostTensor, Nanos, Packed};
use bps_wire::{
    Advert, AdvertCodec, AdvertDevice, AdvertModel, AdvertTable, Answer, Denied, DeniedKind, DeviceReport, Execute,
    HostKey, Message, OUTPUT_CUT, Route, StageReport, Standing, Trace,
};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than an answer takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Hash of the stranger's cut list; that of the model here is another.
const OTHER_CUTS: [u8; 32] = [1; 32];

struct Stranger {
    edge: Host,
    transport: Transport,
    /// The edge's key and its own.
    edge_key: HostKey,
    key: HostKey,
    /// What the edge said last that it has.
    adverts: watch::Receiver<Advert>,
    /// Stages and answers of the edge.
    stages: UnboundedReceiver<Message>,
    _folders: [TempDir; 2],
}

impl Stranger {
    /// Linked with an edge, which may execute there and knows that the model is there.
    async fn meet(change: impl FnOnce(&mut HostConfig)) -> Self {
        let rights = Rights { execute: true, fetch_models: false };
        let Played { transport, key, host_key: edge_key, happenings, folders } =
            Played::paired("edge", "stranger", rights);
        let (told, stages) = unbounded_channel();
        let (heard, adverts) = watch::channel(Advert::default());
        tokio::spawn(keep(transport.clone(), edge_key, happenings, told, heard));

        let mut config = config();
        config.state_dir = Some(folders[0].path().to_owned());
        config.builtin_models = vec![digits("digits", "accuracy_budget_ppm = 100000")];
        config.peers = Some(PeersConfig { name: "edge".into(), carrier: CarrierChoice::Tcp, ..PeersConfig::default() });
        no_probation(&mut config);
        change(&mut config);
        let edge = Host::start(config).await.unwrap();
        edge.load_policy(chaos(), "this test".into()).await.unwrap();
        until("the model may run there", || edge.peers().iter().any(|p| p.models_shared == ["digits"])).await;
        Self { edge, transport, edge_key, key, adverts, stages, _folders: folders }
    }

    /// The model from `from_cut` to `until_cut` for five rows, to be executed by the edge; its answer.
    async fn asks(&mut self, from_cut: u32, until_cut: u32) -> Result<Vec<Packed>, Denied> {
        let execute = Execute {
            dispatch: (u64::from(from_cut) << 32) | u64::from(until_cut),
            origin: self.key,
            model: digest(),
            cut_list: OTHER_CUTS,
            route: vec![Route { host: self.edge_key, device: 0, from_cut, until_cut, codec: 0, rate: 0 }],
            rows: 5,
            budget: None,
            priority: 0,
            trace: Trace::default(),
            reports: vec![],
            tensors: vec![bps_codec::encode(0, 0, &image(3, 5)).unwrap()],
        };
        let dispatch = execute.dispatch;
        self.transport.send(self.edge_key, Message::Execute(execute)).unwrap();
        match timeout(SOON, self.stages.recv()).await {
            Ok(Some(Message::Answer(answer))) if answer.dispatch == dispatch => answer.outcome,
            other => panic!("no answer but {other:?}"),
        }
    }

    /// Executes what comes on a host behind it. Returns the edge and the routes that came.
    fn serves(self, behind: Host) -> (Host, UnboundedReceiver<Vec<Route>>) {
        let Self { edge, transport, edge_key, key, mut stages, _folders, .. } = self;
        let (told, routes) = unbounded_channel();
        tokio::spawn(async move {
            let _folders = _folders;
            while let Some(Message::Execute(execute)) = stages.recv().await {
                drop(told.send(execute.route.clone()));
                let answer = answer(&behind, key, execute).await;
                transport.send(edge_key, Message::Answer(answer)).unwrap();
            }
        });
        (edge, routes)
    }
}

/// Says what the stranger has whenever the link comes up, how it stands ten times a second, and passes on what is about
/// stages.
async fn keep(
    transport: Transport,
    edge: HostKey,
    mut happenings: UnboundedReceiver<Happening>,
    stages: UnboundedSender<Message>,
    adverts: watch::Sender<Advert>,
) {
    let report = DeviceReport { index: 0, up: true, backlog: Nanos::ZERO, running: 0, memory_free: None };
    let standing = Message::Standing(Standing { epoch: 1, devices: vec![report], links: vec![] });
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        let sent = tokio::select! {
            happening = happenings.recv() => match happening {
                None => return,
                Some(Happening::Up { .. }) => transport.send(edge, Message::Advert(advert())),
                Some(Happening::Arrived { message: message @ (Message::Execute(_) | Message::Answer(_)), .. }) => {
                    drop(stages.send(message));
                    Ok(0)
                }
                Some(Happening::Arrived { message: Message::Advert(advert), .. }) => {
                    adverts.send_replace(advert);
                    Ok(0)
                }
                Some(_) => Ok(0),
            },
            _ = tick.tick() => transport.send(edge, standing.clone()),
        };
        // Without a link there is nobody to tell.
        assert!(matches!(sent, Ok(_) | Err(SendError::Down)), "{sent:?}");
    }
}

fn digest() -> [u8; 32] {
    Graph::parse(&make(Topology::DigitsNet, 7), &Limits::default()).unwrap().digest
}

/// The digits net with four cuts of the stranger's own, in no time.
fn advert() -> Advert {
    let codec = |c: &bps_codec::CodecSpec| AdvertCodec { id: c.id, name: c.name.into() };
    let stage_nanos = AdvertTable {
        device: 0,
        codec: 0,
        kind: TableKind::StageNanos,
        measured: true,
        shape: vec![TABLE_BATCHES.len() as u32, 4],
        values: TABLE_BATCHES.iter().flat_map(|_| [0.0, 1.0, 2.0, 3.0]).collect(),
    };
    let model = AdvertModel {
        digest: digest(),
        cut_list: OTHER_CUTS,
        calibration: [0; 32],
        name: "digits".into(),
        exportable: false,
        file_bytes: 0,
        batch_max: 1_024,
        devices: vec![0],
        tables: vec![stage_nanos],
    };
    Advert {
        epoch: 1,
        devices: vec![AdvertDevice { index: 0, name: "cpu".into(), kind: DeviceKind::Cpu, memory_bytes: None }],
        models: vec![model],
        codecs: bps_codec::codecs().iter().map(codec).collect(),
        peers: vec![],
        window: 4,
    }
}

async fn answer(behind: &Host, key: HostKey, execute: Execute) -> Answer {
    let packed = &execute.tensors[0];
    let input: HostTensor = bps_codec::decode(packed, &packed.shape).unwrap();
    let began = clock();
    let reply = infer(behind, input).await.unwrap();
    let (elapsed, batch_rows) = (clock() - began, execute.rows);
    let report = StageReport { host: key, device: 0, arrived: began, began, elapsed, batch_rows };
    let output = bps_codec::encode(0, 0, &reply.outputs[0].tensor).unwrap();
    Answer { dispatch: execute.dispatch, reports: vec![report], outcome: Ok(vec![output]) }
}

async fn swap(host: &Host, name: &str, config: &str) {
    let request = SwapRequest { policy: name.into(), config: config.into(), rehearse: false, ..SwapRequest::default() };
    host.swap_policy(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_cuts_are_numbered_differently_there_runs_there_whole_and_is_not_split() {
    let behind = start(|_| {}).await;
    let (edge, mut routes) = Stranger::meet(|_| {}).await.serves(behind.clone());
    assert_eq!(edge.peers()[0].models[0].shared, SharedModel::OtherCuts);
    let whole = values(&infer(&behind, image(3, 5)).await.unwrap());
    let largest = whole.iter().fold(0.0f32, |m, v| m.max(v.abs()));

    // Also as an image, and with whatever else an input may travel.
    for codec in bps_codec::codecs().iter().filter(|codec| codec.id != bps_codec::ff::ID_CANCELLING) {
        let rate = codec.rates.last().copied().filter(|_| codec.for_input).unwrap_or(0);
        swap(&edge, "chaos", &format!("{{\"mode\":\"split\",\"cut\":0,\"codec\":{},\"rate\":{rate}}}", codec.id)).await;
        let there = values(&infer(&edge, image(3, 5)).await.unwrap());
        for (a, b) in whole.iter().zip(&there) {
            assert!((a - b).abs() < 0.3 * largest.max(1.0), "{}: {a} became {b}", codec.name);
        }
        let route = routes.try_recv().expect("it went there");
        let [only] = route[..] else { panic!("{route:?}") };
        assert_eq!((only.from_cut, only.until_cut, only.codec), (0, OUTPUT_CUT, codec.id));
    }
    assert_eq!(edge.ledger().invalid_rows, 0);

    swap(&edge, "chaos", "{\"mode\":\"split\",\"cut\":2,\"codec\":0,\"rate\":0}").await;
    assert_close(&whole, &values(&infer(&edge, image(3, 5)).await.unwrap()));
    let refused = edge.ledger().invalid_rows;
    assert!(refused > 0, "a split is refused, and answered by this host alone");
    assert!(routes.try_recv().is_err(), "nothing went there");
    assert_eq!(edge.receipts(1)[0].stages.len(), 1);

    for policy in ["remote-only", "bps", "surgeon"] {
        swap(&edge, policy, "").await;
        for seed in 0..8 {
            infer(&edge, image(seed, 5)).await.unwrap();
        }
    }
    assert_eq!(edge.ledger().invalid_rows, refused, "those who go by the tables propose no split");
    // Where this machine stalled for a moment, nothing may have gone there yet.
    swap(&edge, "remote-only", "").await;
    let began = Instant::now();
    while routes.try_recv().is_err() {
        assert!(began.elapsed() < SOON, "but whole models");
        infer(&edge, image(3, 5)).await.unwrap();
    }
    settled(&edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_numbers_the_cuts_differently_has_whole_models_executed_here_and_no_parts() {
    let mut stranger = Stranger::meet(|_| {}).await;
    let expected = values(&infer(&start(|_| {}).await, image(3, 5)).await.unwrap());
    let outputs = stranger.asks(0, OUTPUT_CUT).await.expect("the whole is executed");
    let output = bps_codec::decode(&outputs[0], &outputs[0].shape).unwrap();
    assert_close(&expected, &output.to_f32().unwrap());
    for (from_cut, until_cut) in [(0, 3), (0, 2), (2, OUTPUT_CUT), (1, 2)] {
        let denied = stranger.asks(from_cut, until_cut).await.expect_err("a part is not");
        assert_eq!(denied.kind, DeniedKind::Mismatch);
        assert!(denied.message.starts_with("cut lists differ: "), "{denied:?}");
    }
    let guests = settled(&stranger.edge).await.guests;
    assert_eq!((guests.arrived, guests.returned), (1, 1));
}

/// So small that what a call costs besides its layer is many times what is assumed of the layer.
fn tiny() -> BuiltinModel {
    let mut b = ModelBuilder::new("tiny");
    let x = b.input("x", &[4]);
    let y = b.node("Relu", "/Relu", &[&x], &[]);
    b.output(&y, "y", &[4]);
    let (onnx, manifest, calibration) = (b.write(1).into(), String::new(), Default::default());
    BuiltinModel { name: "tiny".into(), onnx, manifest, calibration }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_executions_teach_of_a_device_is_told_to_others() {
    let slow_and_tiny = |c: &mut HostConfig| {
        c.devices = vec![device("cpu,slowdown=100")];
        c.builtin_models.push(tiny());
    };
    let stranger = Stranger::meet(slow_and_tiny).await;
    let said = || {
        let advert = stranger.adverts.borrow();
        let mut tables = advert.models.iter().filter(|m| m.name == "tiny").flat_map(|m| &m.tables);
        tables.find(|t| t.kind == TableKind::StageNanos).cloned()
    };
    let whole = |table: &AdvertTable| table.values[table.shape[1] as usize - 1];
    until("the edge has said what it has", || said().is_some()).await;
    let assumed = said().unwrap();
    assert!(!assumed.measured);
    for _ in 0..30 {
        let tensor = HostTensor::from_f32(vec![1, 4], &[1.0, -1.0, 2.0, -2.0]).unwrap();
        let inputs = vec![NamedTensor { name: "x".into(), tensor }];
        stranger.edge.infer(InferCall { model: "tiny".into(), inputs, ..InferCall::default() }).await.unwrap();
    }
    until("the edge says it anew", || said().is_some_and(|now| now.measured)).await;
    let now = said().unwrap();
    assert!(whole(&now) > 1.2 * whole(&assumed), "{} ns became {} ns", whole(&assumed), whole(&now));
    settled(&stranger.edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_another_host_has_corrected_is_told_and_is_no_new_world() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.bpsrec");
    let stranger = Stranger::meet(|c| c.record = Some(path.clone())).await;
    let mut corrected = Advert { epoch: 2, ..advert() };
    corrected.models[0].name = "by another name".into();
    corrected.models[0].tables[0].values.iter_mut().for_each(|v| *v *= 2.0);
    stranger.transport.send(stranger.edge_key, Message::Advert(corrected)).unwrap();
    until("the edge has heard it", || stranger.edge.peers()[0].models[0].name == "by another name").await;
    tokio::time::sleep(Duration::from_millis(300)).await; // it tells the scheduler twenty times a second
    settled(&stranger.edge).await;
    stranger.edge.drain().await;
    drop(stranger);
    let mut told = Vec::new();
    for record in Reader::open(&path).unwrap() {
        if let Record::Table { table, .. } = record
            && (table.device, table.kind) == (1, TableKind::StageNanos)
        {
            told.push((table.epoch, table.values.last().copied()));
        }
    }
    let [.., before, after] = told[..] else { panic!("{told:?}") };
    assert_eq!((before.1, after.1), (Some(3.0), Some(6.0)), "{told:?}");
    assert_eq!(before.0, after.0, "in the same world: {told:?}");
}
