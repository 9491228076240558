//! Where stage times come from: a kept profile, a quick measurement, or neither.

use super::costs;
use crate::ProfileChoice;
use crate::state_dir;
use bps_engine::{DeviceDescription, Engine, Model, Profile};
use bps_types::policy::TABLE_BATCHES;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::{Duration, Instant};

/// A quick measurement of one model on one device takes about this long at most; a batch size that would exceed it is
/// left out (the first never is).
const QUICK_BUDGET: Duration = Duration::from_secs(2);
/// A measured table of 100,000 layers has about this many bytes; more is no profile.
const PROFILE_BYTES_MAX: u64 = 32 << 20;

/// The profile to use, if there is one.
pub(super) fn obtain(
    choice: ProfileChoice,
    state_dir: Option<&Path>,
    engine: &Engine,
    device: &DeviceDescription,
    model: &Model,
    batch_max: u32,
) -> Option<Profile> {
    if choice == ProfileChoice::Off {
        return None;
    }
    let path = state_dir.map(|dir| dir.join("profiles").join(file_name(model, device)));
    let kept = path.as_deref().and_then(|path| read(path, model, device));
    if kept.is_some() || choice == ProfileChoice::Cached {
        return kept;
    }
    let profile = measure(engine, device, model, batch_max)?;
    if let Some(path) = path
        && let Ok(text) = serde_json::to_vec(&profile)
        && let Err(error) = state_dir::write_whole(&path, &text)
    {
        tracing::warn!(%error, "profile not kept");
    }
    Some(profile)
}

fn file_name(model: &Model, device: &DeviceDescription) -> String {
    let fingerprint = Sha256::digest(device.fingerprint.as_bytes());
    let short = bps_types::hex(&fingerprint[..8]);
    let digest = model.graph().digest_hex();
    format!("{}-{short}.json", digest.get(..16).unwrap_or(&digest))
}

fn read(path: &Path, model: &Model, device: &DeviceDescription) -> Option<Profile> {
    let bytes = state_dir::read_bounded(path, PROFILE_BYTES_MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "kept profile not read");
        None
    })?;
    let profile = serde_json::from_slice::<Profile>(&bytes).ok();
    let usable = profile.filter(|p| costs::fits(p, model.graph(), device));
    if usable.is_none() {
        tracing::warn!(path = %path.display(), "kept profile does not fit, measuring anew");
    }
    usable
}

/// Batch by batch, while time allows.
fn measure(engine: &Engine, device: &DeviceDescription, model: &Model, batch_max: u32) -> Option<Profile> {
    let began = Instant::now();
    let mut whole: Option<Profile> = None;
    let mut took = Duration::ZERO;
    for rows in TABLE_BATCHES.into_iter().filter(|rows| *rows <= batch_max) {
        if whole.is_some() && began.elapsed() + took * 2 > QUICK_BUDGET {
            break;
        }
        let started = Instant::now();
        let part = match engine.profile(device.index, model, &[rows], &mut |_, _| {}) {
            Ok(part) => part,
            Err(error) => {
                tracing::warn!(%error, device = device.name, rows, "profile stops here");
                break;
            }
        };
        took = started.elapsed();
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.batches.extend(part.batches);
                whole.layer_nanos.extend(part.layer_nanos);
                whole.overhead_nanos.extend(part.overhead_nanos);
            }
        }
    }
    whole.filter(|p| costs::fits(p, model.graph(), device))
}
