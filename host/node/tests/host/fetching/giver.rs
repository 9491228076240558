//! A host that gives a model, played by the test over a real link, and the host that fetches it.

use crate::played::Played;
use crate::stand::{device, digits, spread, write_model};
use bps_graph::{Graph, Limits};
use bps_node::{Host, HostConfig, PeersConfig, ProfileChoice, SharedModel};
use bps_transport::{CarrierChoice, Happening, Rights, SendError, Transport};
use bps_wire::{
    Advert, AdvertCodec, AdvertModel, HostKey, Message, ModelFile, ModelList, ModelPart, ModelWanted, Standing,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Longest that an answer takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Pieces are this small, so that there are many.
pub(super) const PIECE_BYTES: usize = 4_000;

/// What is given: a list, and what the files hold.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) list: ModelList,
    /// By the digest under which they are listed.
    pub(super) content: BTreeMap<[u8; 32], Vec<u8>>,
    /// As the advert says it.
    pub(super) file_bytes: u64,
    cut_list: [u8; 32],
}

impl Given {
    /// The digits net with its weights in files beside it.
    pub(super) fn honest(outside: &[&str]) -> Self {
        let model = digits("digits", "");
        let (onnx, files) = spread(&model.onnx, outside);
        let folder = TempDir::new().unwrap();
        write_model(folder.path(), &onnx, &files, "");
        let graph = Graph::load(&folder.path().join("model.onnx"), &Limits::default()).unwrap();
        let list = ModelList { digest: graph.digest, manifest: model.manifest, files: vec![] };
        let cut_list = graph.cut_list_hash();
        let mut given = Self { list, content: BTreeMap::new(), file_bytes: 0, cut_list };
        given.add("model.onnx", onnx);
        files.into_iter().for_each(|(name, content)| given.add(&name, content));
        given
    }

    /// One more file.
    pub(super) fn add(&mut self, name: &str, content: Vec<u8>) {
        let (bytes, digest) = (content.len() as u64, Sha256::digest(&content).into());
        self.list.files.push(ModelFile { name: name.into(), bytes, digest });
        self.file_bytes += bytes;
        self.content.insert(digest, content);
    }

    /// Bytes of the files and of `model.toml`.
    pub(super) fn needed(&self) -> u64 {
        self.file_bytes + self.list.manifest.len() as u64
    }

    fn advert(&self, epoch: u32) -> Advert {
        let calibration =
            self.list.files.iter().find(|file| file.name == "model.ff").map_or([0; 32], |file| file.digest);
        let model = AdvertModel {
            digest: self.list.digest,
            cut_list: self.cut_list,
            calibration,
            name: "digits".into(),
            exportable: true,
            file_bytes: self.file_bytes,
            batch_max: 32,
            devices: vec![],
            tables: vec![],
        };
        let codec = |c: &bps_codec::CodecSpec| AdvertCodec { id: c.id, name: c.name.into() };
        let codecs = bps_codec::codecs().iter().map(codec).collect();
        Advert { epoch, devices: vec![], models: vec![model], codecs, peers: vec![], window: 0 }
    }

    fn part(&self, wanted: &ModelWanted) -> ModelPart {
        let from = usize::try_from(wanted.offset).unwrap();
        let content = self.content[&wanted.file][from..].iter().copied();
        let data: Vec<u8> = content.take(PIECE_BYTES.min(wanted.bytes as usize)).collect();
        ModelPart { digest: wanted.digest, file: wanted.file, offset: wanted.offset, data: data.into() }
    }
}

/// A question that came: a file's name and an offset in it, or for the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    List,
    Piece(String, u64),
}

/// What the played host shares with the test.
struct Shared {
    given: Mutex<Given>,
    /// Of its advert; grows when it has something else to give.
    epoch: AtomicU32,
    asked: Mutex<Vec<Asked>>,
    /// Pieces that it still gives; then it is silent.
    pieces_left: AtomicUsize,
    /// What the host said last that it has.
    heard: Mutex<Advert>,
}

/// The played host, and the real one.
pub(super) struct Scene {
    pub(super) host: Option<Host>,
    host_key: HostKey,
    transport: Transport,
    shared: Arc<Shared>,
    /// Answers of the host.
    answers: UnboundedReceiver<Message>,
    folders: [TempDir; 2],
    disk_bytes_max: u64,
    models: Vec<PathBuf>,
}

impl Scene {
    /// A host without models and with room for `disk_bytes_max`, linked with one that gives `given`.
    pub(super) async fn start(given: Given, disk_bytes_max: u64, pieces: usize) -> Self {
        Self::start_with(given, disk_bytes_max, pieces, vec![]).await
    }

    /// The same, where the host has models of its own.
    pub(super) async fn start_with(given: Given, disk_bytes_max: u64, pieces: usize, models: Vec<PathBuf>) -> Self {
        let rights = Rights { execute: true, fetch_models: true };
        let Played { transport, host_key, happenings, folders, .. } = Played::paired("host", "giver", rights);
        let (told, answers) = unbounded_channel();
        let shared = Arc::new(Shared {
            given: Mutex::new(given),
            epoch: AtomicU32::new(1),
            asked: Mutex::default(),
            pieces_left: AtomicUsize::new(pieces),
            heard: Mutex::default(),
        });
        tokio::spawn(play(transport.clone(), host_key, shared.clone(), happenings, told));
        let mut scene = Self { host: None, host_key, transport, shared, answers, folders, disk_bytes_max, models };
        scene.restart().await;
        scene
    }

    /// Ends the host, where it runs, and starts it with what it has on disk. From now on all pieces are given.
    pub(super) async fn restart(&mut self) {
        if let Some(host) = self.host.take() {
            host.drain().await;
            self.shared.asked.lock().unwrap().clear();
            self.shared.pieces_left.store(usize::MAX, Ordering::Relaxed);
        }
        let disk_bytes_max = self.disk_bytes_max;
        let peers =
            PeersConfig { name: "host".into(), carrier: CarrierChoice::Tcp, disk_bytes_max, ..Default::default() };
        let config = HostConfig {
            devices: vec![device("cpu")],
            state_dir: Some(self.folders[0].path().to_owned()),
            profile: ProfileChoice::Off,
            models: self.models.clone(),
            peers: Some(peers),
            ..HostConfig::default()
        };
        self.host = Some(Host::start(config).await.unwrap());
    }

    /// The played host has something else to give, and says so.
    pub(super) fn change(&self, change: impl FnOnce(&mut Given)) {
        change(&mut self.shared.given.lock().unwrap());
        self.shared.epoch.fetch_add(1, Ordering::Relaxed);
        self.shared.asked.lock().unwrap().clear();
        self.transport.send(self.host_key, self.shared.advert()).unwrap();
    }

    /// The questions so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(super) fn is_fetched(&self) -> bool {
        let peers = self.host.as_ref().expect("the host runs").peers();
        peers[0].models.iter().any(|model| model.shared == SharedModel::Fetched)
    }

    /// Of the model that is given.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.shared.given.lock().unwrap().list.digest
    }

    /// The calibration that the host says it has for the model; none where it does not speak of the model.
    pub(super) fn calibration(&self) -> Option<[u8; 32]> {
        let digest = self.digest();
        self.advertised().iter().find(|m| m.digest == digest).map(|m| m.calibration)
    }

    /// Where the host keeps what it has fetched.
    pub(super) fn shelf(&self) -> PathBuf {
        self.folders[0].path().join("fetched")
    }

    /// Names on the shelf.
    pub(super) fn kept(&self) -> Vec<String> {
        names(&self.shelf())
    }

    /// Asks the host.
    pub(super) async fn ask(&mut self, question: Message) -> Message {
        self.transport.send(self.host_key, question).unwrap();
        timeout(SOON, self.answers.recv()).await.expect("an answer").expect("the link stands")
    }

    /// Models the host speaks of.
    pub(super) fn advertised(&self) -> Vec<AdvertModel> {
        self.shared.heard.lock().unwrap().models.clone()
    }
}

/// Names in a folder; none where there is no folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Says what it has whenever the link comes up, how it stands ten times a second, and answers.
async fn play(
    transport: Transport,
    host: HostKey,
    shared: Arc<Shared>,
    mut happenings: UnboundedReceiver<Happening>,
    answers: UnboundedSender<Message>,
) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        let said = tokio::select! {
            happening = happenings.recv() => match happening {
                None => return,
                Some(Happening::Up { .. }) => Some(shared.advert()),
                Some(Happening::Arrived { message, .. }) => shared.answer(message, &answers),
                Some(_) => None,
            },
            _ = tick.tick() => Some(shared.standing()),
        };
        let sent = said.map_or(Ok(0), |message| transport.send(host, message));
        // Without a link there is nobody to tell.
        assert!(matches!(sent, Ok(_) | Err(SendError::Down)), "{sent:?}");
    }
}

impl Shared {
    fn advert(&self) -> Message {
        Message::Advert(self.given.lock().unwrap().advert(self.epoch.load(Ordering::Relaxed)))
    }

    fn standing(&self) -> Message {
        Message::Standing(Standing { epoch: self.epoch.load(Ordering::Relaxed), devices: vec![], links: vec![] })
    }

    fn answer(&self, message: Message, answers: &UnboundedSender<Message>) -> Option<Message> {
        let given = self.given.lock().unwrap();
        match message {
            Message::ListWanted(_) => {
                self.asked.lock().unwrap().push(Asked::List);
                Some(Message::ModelList(given.list.clone()))
            }
            Message::ModelWanted(wanted) => {
                let file = given.list.files.iter().find(|file| file.digest == wanted.file).expect("it is listed");
                self.asked.lock().unwrap().push(Asked::Piece(file.name.clone(), wanted.offset));
                let take = |left: usize| left.checked_sub(1);
                let gives = self.pieces_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
                gives.then(|| Message::ModelPart(given.part(&wanted)))
            }
            Message::Advert(advert) => {
                *self.heard.lock().unwrap() = advert;
                None
            }
            message @ (Message::ModelList(_) | Message::ModelPart(_) | Message::ModelDenied(_)) => {
                drop(answers.send(message));
                None
            }
            _ => None,
        }
    }
}
