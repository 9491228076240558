//! The policies that can be made active, and the components that could not be taken.

use crate::{PolicyEntry, PolicyEntryState, PolicyRejected, SwapError};
use bps_plugin::{LoadError, LoadedPolicy};
use std::collections::VecDeque;

/// Policies kept. Each holds compiled code; a host that needs more is being misused.
const POLICIES_MAX: usize = 128;
/// Rejections kept for people to read.
const REJECTED_MAX: usize = 64;
/// Origin of policies that come with the host.
pub(crate) const PREBUILT: &str = "prebuilt";
/// Fewest digits of a digest that name a policy.
const DIGITS_MIN: usize = 6;

/// See the file's text.
#[derive(Default)]
pub(crate) struct Library {
    /// In the order they came.
    known: Vec<Known>,
    rejected: VecDeque<PolicyEntry>,
}

struct Known {
    policy: LoadedPolicy,
    origin: String,
}

impl Library {
    /// Takes a policy in. The same component again is no second entry, but counts as the latest of its name; what is built
    /// in stays so. Where there is no room, the oldest goes that is neither built in nor `in_use`.
    pub(crate) fn insert(
        &mut self,
        policy: LoadedPolicy,
        origin: String,
        in_use: impl Fn(&str) -> bool,
    ) -> Result<PolicyEntry, PolicyRejected> {
        let again = self.known.extract_if(.., |k| k.policy.digest() == policy.digest()).next();
        let is_built_in = again.is_some_and(|k| k.origin == PREBUILT);
        let dispensable = |k: &Known| k.origin != PREBUILT && !in_use(k.policy.digest());
        if self.known.len() >= POLICIES_MAX
            && let Some(oldest) = self.known.iter().position(dispensable)
        {
            self.known.remove(oldest);
        }
        if self.known.len() >= POLICIES_MAX {
            let reason = format!("{POLICIES_MAX} policies are loaded, the most that are kept");
            return Err(PolicyRejected { stage: "received".into(), reason });
        }
        self.rejected.retain(|r| r.origin != origin);
        let origin = if is_built_in { PREBUILT.to_owned() } else { origin };
        self.known.push(Known { policy, origin });
        Ok(self.entry(self.known.len() - 1))
    }

    /// Remembers what was not taken.
    pub(crate) fn reject(&mut self, name: String, origin: String, size_bytes: usize, error: &PolicyRejected) {
        self.rejected.retain(|r| r.origin != origin);
        if self.rejected.len() == REJECTED_MAX {
            self.rejected.pop_front();
        }
        let PolicyRejected { stage, reason } = error.clone();
        self.rejected.push_back(PolicyEntry {
            name,
            version: String::new(),
            digest: String::new(),
            origin,
            state: PolicyEntryState::Rejected { stage, reason },
            summary: String::new(),
            size_bytes,
            config_schema: String::new(),
            shadows: None,
        });
    }

    pub(crate) fn entries(&self) -> Vec<PolicyEntry> {
        (0..self.known.len()).map(|index| self.entry(index)).chain(self.rejected.iter().cloned()).collect()
    }

    /// The policy with exactly this digest.
    pub(crate) fn by_digest(&self, digest: &str) -> Option<LoadedPolicy> {
        self.known.iter().find(|k| k.policy.digest() == digest).map(|k| k.policy.clone())
    }

    /// The policy meant by a name, `name@version` or the beginning of a digest. Of several with one name it is the one
    /// that came last, so that what a user drops in wins over what is built in.
    pub(crate) fn find(&self, wanted: &str) -> Result<LoadedPolicy, SwapError> {
        let (name, version) = wanted.split_once('@').map_or((wanted, None), |(n, v)| (n, Some(v)));
        let is_it = |known: &&Known| {
            let manifest = known.policy.manifest();
            manifest.name == name && version.is_none_or(|v| manifest.version == v)
        };
        if let Some(known) = self.known.iter().rev().find(is_it) {
            return Ok(known.policy.clone());
        }
        let is_digest = wanted.len() >= DIGITS_MIN && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        let lower = wanted.to_ascii_lowercase();
        let mut matches = self.known.iter().filter(|k| is_digest && k.policy.digest().starts_with(&lower));
        match (matches.next(), matches.next()) {
            (Some(known), None) => Ok(known.policy.clone()),
            (Some(_), Some(_)) => {
                Err(SwapError::NotFound(format!("more than one policy's digest begins with {wanted}")))
            }
            (None, _) => {
                let names: Vec<&str> = self.known.iter().map(|k| k.policy.manifest().name.as_str()).collect();
                Err(SwapError::NotFound(format!("no policy {wanted}; there are: {}", names.join(", "))))
            }
        }
    }

    fn entry(&self, index: usize) -> PolicyEntry {
        let Known { policy, origin } = &self.known[index];
        let manifest = policy.manifest();
        // As `find` looks for a name: the latest wins.
        let shadowed = |k: &&Known| k.origin == PREBUILT && k.policy.manifest().name == manifest.name;
        let shadows = self.known[..index].iter().find(shadowed).filter(|_| origin != PREBUILT);
        PolicyEntry {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: policy.digest().to_owned(),
            origin: origin.clone(),
            state: PolicyEntryState::Available,
            summary: manifest.summary.clone(),
            size_bytes: policy.size_bytes(),
            config_schema: manifest.config_schema.clone(),
            shadows: shadows.map(|k| k.policy.digest().to_owned()),
        }
    }
}

impl From<LoadError> for PolicyRejected {
    fn from(error: LoadError) -> Self {
        Self { stage: error.stage.name().to_owned(), reason: error.reason }
    }
}
