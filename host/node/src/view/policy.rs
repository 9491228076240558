//! Policies as data: what is known, what decides, how a swap went.

use serde::Serialize;
use std::collections::BTreeMap;

/// Where a known policy stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum PolicyEntryState {
    /// Can be made active.
    Available,
    /// Decides now.
    Active,
    /// Was active before and is kept warm.
    Standby,
    /// Faulted too often; refused for a while.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// Was not taken.
    Rejected {
        /// The stage that refused it.
        stage: String,
        /// Why.
        reason: String,
    },
}

/// A policy the host knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyEntry {
    /// Its name; for a rejected file the file's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its component in hex.
    pub digest: String,
    /// Where it came from: `prebuilt`, `upload…` or a file's path.
    pub origin: String,
    /// Where it stands.
    #[serde(flatten)]
    pub state: PolicyEntryState,
    /// One sentence of its own.
    pub summary: String,
    /// Size of the component.
    pub size_bytes: usize,
    /// JSON schema of its configuration.
    pub config_schema: String,
    /// Digest of the built-in policy whose name it has: the name alone means this one from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadows: Option<String>,
}

/// A policy that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("policy rejected when {stage}: {reason}")]
pub struct PolicyRejected {
    /// The stage it did not reach: `received`, `verified`, `compiled`, `admitted`, `configured` or `rehearsed`.
    pub stage: String,
    /// Why.
    pub reason: String,
}

/// Which policy to make active, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapRequest {
    /// A name, `name@version`, or at least 6 digits of a digest.
    pub policy: String,
    /// Its configuration, as its schema says; empty: its defaults.
    pub config: String,
    /// What its random choices are drawn from.
    pub seed: u64,
    /// Offer it the state of the policy it replaces.
    pub carry_state: bool,
    /// Try it on a synthetic corpus before it may decide.
    pub rehearse: bool,
}

impl Default for SwapRequest {
    fn default() -> Self {
        Self { policy: String::new(), config: String::new(), seed: 0, carry_state: true, rehearse: true }
    }
}

/// A swap that was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SwapReport {
    /// What decided before.
    pub from: PolicyName,
    /// What decides now.
    pub to: PolicyName,
    /// Its generation.
    pub generation: u32,
    /// What became of the predecessor's state: `restored`, or `none` where there was none, or it was not asked for or
    /// declined.
    pub carried: String,
    /// Set where an earlier policy took over again: why.
    pub rollback: Option<String>,
    /// The longest that a dispatch could have waited because of the switch, microseconds.
    pub pause_us: f64,
    /// From the request to the switch, milliseconds: find, instantiate, rehearse, brief.
    pub prepare_ms: f64,
    /// What the rehearsal said, where there was one.
    pub rehearsal: Option<String>,
}

/// Name, version and digest of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyName {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its component in hex, or `native`.
    pub digest: String,
}

/// Why a swap was not made. The policy that decided before still does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// No policy, or more than one, goes by that name.
    #[error("{0}")]
    NotFound(String),
    /// Another swap is being prepared and one already waits.
    #[error("another swap is in progress")]
    Busy,
    /// It did not get through a stage.
    #[error(transparent)]
    Rejected(#[from] PolicyRejected),
    /// It faulted too often and is refused for a while.
    #[error("policy {digest} is quarantined: {reason}")]
    Quarantined {
        /// Its digest.
        digest: String,
        /// Why.
        reason: String,
    },
    /// The scheduler refused the switch.
    #[error("{0}")]
    Refused(String),
    /// The host is stopping.
    #[error("the host is stopping")]
    Stopping,
}

impl SwapError {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotFound(_) => 404,
            Self::Busy | Self::Quarantined { .. } => 409,
            Self::Rejected(_) => 422,
            Self::Refused(_) => 409,
            Self::Stopping => 503,
        }
    }

    /// The stage that refused, where one did.
    pub fn stage(&self) -> Option<&str> {
        match self {
            Self::Rejected(r) => Some(&r.stage),
            _ => None,
        }
    }
}

/// How long `decide` calls took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DecideTimes {
    /// How many.
    pub count: u64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Longest, microseconds.
    pub max_us: f64,
}

/// The active policy and how it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PolicyStatusView {
    /// Who decides now; the built-in fallback where no policy does.
    pub active: PolicyName,
    /// How many policies this run has had.
    pub generation: u32,
    /// `probation`, `stable`, `fallback`, ...
    pub state: String,
    /// The policy that is kept for a rollback.
    pub previous: Option<PolicyName>,
    /// Its configuration.
    pub config: String,
    /// Its seed.
    pub seed: u64,
    /// Times of its decisions.
    pub decide: DecideTimes,
    /// Faults of all policies of this run, by class.
    pub faults: BTreeMap<String, u64>,
    /// What the last fault said.
    pub last_fault: Option<String>,
    /// Digests that are refused for now, each with why.
    pub quarantined: BTreeMap<String, String>,
    /// Gauges it has set, by its own ids.
    pub gauges: BTreeMap<u32, f64>,
    /// The account of every request.
    pub ledger: bps_sched::Ledger,
    /// Swaps, rollbacks and rebuilds of this run; its first policy is none of them.
    pub swaps: u64,
    /// Pause of the last one, microseconds.
    pub last_pause_us: Option<f64>,
}
