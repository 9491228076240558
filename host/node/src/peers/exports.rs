//! Gives pieces of this host's models to hosts that may have them, one piece at a time.

use super::{Peers, stopped};
use crate::models::ServedModel;
use bps_transport::SendError;
use bps_wire::{HostKey, Message, ModelDenied, ModelPart, ModelWanted};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// As often as a piece is offered to a link that is full.
const TRIES_MAX: u32 = 40;
/// And how long is waited in between: requests go first.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers questions until the host stops.
pub(super) async fn run(peers: Arc<Peers>, mut wanted: Receiver<(HostKey, ModelWanted)>) {
    let mut stop = peers.stopping();
    loop {
        let question = tokio::select! {
            question = wanted.recv() => question,
            () = stopped(&mut stop) => None,
        };
        let Some((peer, wanted)) = question else { return };
        let answer = match piece(&peers, peer, wanted).await {
            Ok(part) => Message::ModelPart(part),
            Err(message) => {
                tracing::info!(key = %peer.short(), message, "a model is not given to a peer");
                Message::ModelDenied(ModelDenied { digest: wanted.digest, message })
            }
        };
        offer(&peers, peer, answer).await;
    }
}

/// The piece, or why it is not given.
async fn piece(peers: &Peers, peer: HostKey, wanted: ModelWanted) -> Result<ModelPart, String> {
    if !peers.rights(peer).is_some_and(|(rights, _)| rights.fetch_models) {
        return Err("this host was not given the right to fetch models here".into());
    }
    let model = peers.models.of_digest(&wanted.digest).ok_or("there is no such model here")?;
    let manifest = match &model.export {
        None => return Err("this model does not leave its host".into()),
        Some(export) if wanted.offset == 0 => export.manifest.clone(),
        Some(_) => String::new(),
    };
    let read = move |model: Arc<ServedModel>| {
        let export = model.export.as_ref().ok_or("this model does not leave its host")?;
        let data = export.read_blocking(wanted.offset, wanted.bytes).map_err(|e| e.to_string())?;
        Ok::<_, String>((export.file_bytes, data))
    };
    let read = tokio::task::spawn_blocking(move || read(model)).await;
    let (file_bytes, data) = read.map_err(|e| e.to_string())??;
    Ok(ModelPart { digest: wanted.digest, offset: wanted.offset, file_bytes, manifest, data })
}

/// Sends when the link has room; after a while the other host asks again by itself.
async fn offer(peers: &Peers, peer: HostKey, answer: Message) {
    for _ in 0..TRIES_MAX {
        match peers.send_to(peer, answer.clone()) {
            Err(SendError::Full { .. }) => tokio::time::sleep(PAUSE).await,
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(key = %peer.short(), %error, "a piece of a model was not sent");
                return;
            }
        }
    }
}
