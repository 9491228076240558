//! What the slot tells about itself.

use super::PolicySlot;
use crate::policy::{Fault, FaultClass};
use crate::receipt::PolicyLabel;
use bps_types::{Generation, Nanos};
use serde::Serialize;
use std::sync::Arc;

/// Why an earlier policy took over again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RollbackReason {
    /// Somebody asked for it.
    Asked,
    /// The newer policy failed.
    Fault(Fault),
    /// More than 0.1 % of its rows were invalid.
    InvalidRows,
    /// More than 1 % of its decide calls took longer than the budget.
    Slow,
    /// It missed more deadlines than its predecessor, by more than the margin.
    Misses,
}

/// What came of a swap, a rollback or a rebuild.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SwapReport {
    /// Who decided before.
    pub from: Arc<PolicyLabel>,
    /// Who decides now.
    pub to: Arc<PolicyLabel>,
    /// The generation that decides now.
    pub generation: Generation,
    /// State went over.
    pub carried_state: bool,
    /// How long dispatching stood still because of it.
    pub pause: Nanos,
    /// Set when an earlier policy took over again.
    pub rollback: Option<RollbackReason>,
    /// Set when nothing changed: why.
    pub refused: Option<String>,
}

/// How firmly the active policy sits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// Active, its predecessor kept warm.
    Probation,
    /// Active.
    Stable,
    /// The native fallback decides; a new instance of the last policy is on its way if `rebuilding`.
    Fallback {
        /// A rebuild was asked for.
        rebuilding: bool,
    },
}

/// All there is to say about the active policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    /// Who decides.
    pub label: Arc<PolicyLabel>,
    /// Its generation.
    pub generation: Generation,
    /// How firmly it sits.
    pub state: SlotState,
    /// Its configuration.
    pub config: String,
    /// Who would take over on a rollback.
    pub standby: Option<Arc<PolicyLabel>>,
    /// Faults since the run began, by class.
    pub faults: Vec<(FaultClass, u64)>,
    /// The latest of them.
    pub last_fault: Option<Fault>,
    /// Digests that are refused, until when, and why.
    pub quarantined: Vec<(String, Nanos, String)>,
    /// Swaps, rollbacks and rebuilds since the run began; its first policy is none of them.
    pub swaps: u64,
    /// Gauges the policy has set.
    pub gauges: Vec<(u32, f64)>,
}

impl PolicySlot {
    /// All there is to say.
    pub(crate) fn status(&self) -> PolicyStatus {
        let state = match (&self.active, &self.probation) {
            (None, _) => SlotState::Fallback { rebuilding: self.rebuilding.is_some() },
            (Some(_), Some(_)) => SlotState::Probation,
            (Some(_), None) => SlotState::Stable,
        };
        let author = self.author();
        PolicyStatus {
            label: author.label.clone(),
            generation: author.generation,
            state,
            config: self.active.as_ref().map_or_else(String::new, |a| a.config.clone()),
            standby: self.standby.as_ref().map(|s| s.author.label.clone()),
            faults: self.faults.iter().map(|(c, n)| (*c, *n)).collect(),
            last_fault: self.last_fault.clone(),
            quarantined: self.quarantine.iter().map(|(d, (t, r))| (d.clone(), *t, r.clone())).collect(),
            swaps: self.swaps,
            gauges: self.active.as_ref().map_or_else(Vec::new, |a| a.policy.metrics()),
        }
    }

    pub(super) fn report(
        &self,
        from: Arc<PolicyLabel>,
        carried_state: bool,
        rollback: Option<RollbackReason>,
    ) -> SwapReport {
        let author = self.author();
        SwapReport {
            from,
            to: author.label.clone(),
            generation: author.generation,
            carried_state,
            pause: Nanos::ZERO,
            rollback,
            refused: None,
        }
    }

    pub(super) fn refused(&self, candidate: &super::Candidate, reason: String) -> SwapReport {
        let name = &candidate.policy.manifest().name;
        let from = self.author().label.clone();
        SwapReport { refused: Some(format!("{name}: {reason}")), ..self.report(from, false, None) }
    }
}
