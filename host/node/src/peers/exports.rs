//! Gives this host's models to hosts that may have them: the list of a model's files, then one piece of one at a time. Several
//! questions are answered at once, so that the list of a large model, for which all of it is read, holds up nobody else.

use super::inbox::Question;
use super::{Peers, stopped};
use crate::clock;
use crate::models::{Export, ServedModel};
use bps_transport::SendError;
use bps_wire::{HostKey, Message, ModelDenied, ModelPart};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

/// Questions that are answered at once.
const ANSWERS_MAX: usize = 4;

/// As often as an answer is offered to a link that is full.
const TRIES_MAX: u32 = 40;
/// And how long is waited in between: requests go first.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers questions until the host stops.
pub(super) async fn run(peers: Arc<Peers>, mut questions: Receiver<(HostKey, Question)>) {
    let mut stop = peers.stopping();
    let places = Arc::new(Semaphore::new(ANSWERS_MAX));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            questions.recv().await.map(|question| (place, question))
        };
        let next = tokio::select! {
            next = next => next,
            () = stopped(&mut stop) => None,
        };
        let Some((place, (peer, question))) = next else { return };
        let peers = peers.clone();
        tokio::spawn(async move {
            let answer =
                answer(&peers, peer, question).await.unwrap_or_else(|message| denied(peer, &question, &message));
            offer(&peers, peer, answer).await;
            drop(place);
        });
    }
}

fn denied(peer: HostKey, question: &Question, message: &str) -> Message {
    tracing::info!(key = %peer.short(), message, "a model is not given to a peer");
    let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
    Message::ModelDenied(ModelDenied { digest: digest_of(question), message })
}

/// Fits in a denial, whatever its characters.
const MESSAGE_CHARS_MAX: usize = bps_wire::DENIED_BYTES_MAX / 4;

fn digest_of(question: &Question) -> [u8; 32] {
    match question {
        Question::List(wanted) => wanted.digest,
        Question::Piece(wanted) => wanted.digest,
    }
}

/// The list or the piece, or why it is not given.
async fn answer(peers: &Peers, peer: HostKey, question: Question) -> Result<Message, String> {
    if !peers.rights(peer).is_some_and(|(rights, _)| rights.fetch_models) {
        return Err("this host was not given the right to fetch models here".into());
    }
    let model = peers.models.of_digest(&digest_of(&question)).ok_or("there is no such model here")?;
    let read = move || read_blocking(exported(&model)?, question);
    tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?
}

fn exported(model: &ServedModel) -> Result<&Export, String> {
    model.export.as_ref().ok_or_else(|| "this model does not leave its host".into())
}

fn read_blocking(export: &Export, question: Question) -> Result<Message, String> {
    match question {
        Question::List(_) => Ok(Message::ModelList(export.list_blocking(clock::now())?.as_ref().clone())),
        Question::Piece(wanted) => {
            let data = export.read_blocking(&wanted, clock::now())?;
            let (digest, file, offset) = (wanted.digest, wanted.file, wanted.offset);
            Ok(Message::ModelPart(ModelPart { digest, file, offset, data }))
        }
    }
}

/// Sends when the link has room; after a while the other host asks again by itself.
async fn offer(peers: &Peers, peer: HostKey, answer: Message) {
    for _ in 0..TRIES_MAX {
        match peers.send_to(peer, answer.clone()) {
            Err(SendError::Full { .. }) => tokio::time::sleep(PAUSE).await,
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(key = %peer.short(), %error, "what was asked of a model was not sent");
                return;
            }
        }
    }
}
