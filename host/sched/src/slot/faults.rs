//! What happens when the active policy fails: roll back, build it again, or send it into quarantine.

use super::{Candidate, PolicySlot, RollbackReason, SwapReport, tell_if_stale};
use crate::policy::{Fault, FaultClass, LogEntry};
use crate::{Action, Config, PolicyLabel};
use bps_types::{Generation, Nanos};
use std::sync::Arc;

impl PolicySlot {
    /// A fresh instance of the policy that failed.
    pub(crate) fn rebuilt(
        &mut self,
        generation: Generation,
        candidate: Result<Box<Candidate>, String>,
        now: Nanos,
        config: &Config,
    ) -> Vec<Action> {
        if self.rebuilding.as_ref().is_none_or(|(author, ..)| author.generation != generation) {
            return Vec::new(); // a swap has overtaken it
        }
        let refusal = match candidate {
            Ok(candidate) => self.swap(candidate, now).refused,
            Err(message) => Some(message),
        };
        let fault = refusal.map(|message| Fault::new(FaultClass::ConfigRejected, message));
        fault.map(|fault| self.hard_fault(fault, now, config)).unwrap_or_default()
    }

    /// The policy has left a runnable request lying.
    pub(crate) fn stalled(&mut self, message: String, now: Nanos, config: &Config) -> Vec<Action> {
        if self.active.is_none() {
            return Vec::new();
        }
        self.hard_fault(Fault::new(FaultClass::Stall, message), now, config)
    }

    /// The active instance is dead: count, and roll back, rebuild later, or quarantine.
    pub(super) fn hard_fault(&mut self, fault: Fault, now: Nanos, config: &Config) -> Vec<Action> {
        self.count_fault(&fault);
        if let Some(dead) = self.active.take() {
            self.log(now, LogEntry::Dropped { generation: dead.author.generation.0, fault: Some(&fault) });
            self.rebuilding = Some((dead.author, dead.config, dead.seed));
        }
        let Some(label) = self.rebuilding.as_ref().map(|(author, ..)| author.label.clone()) else { return Vec::new() };
        self.fault_times.push_back(now);
        self.fault_times.retain(|t| now.since(*t) <= config.fault_window);
        if self.fault_times.len() > config.faults_max {
            self.quarantine.insert(label.digest.clone(), (now + config.quarantine, fault.to_string()));
            return self.fall_back_to_standby(label, RollbackReason::Fault(fault), now);
        }
        if self.probation.is_some() && self.standby.is_some() {
            return self.fall_back_to_standby(label, RollbackReason::Fault(fault), now);
        }
        self.retry_rebuild(now, config)
    }

    fn retry_rebuild(&mut self, now: Nanos, config: &Config) -> Vec<Action> {
        let Some((author, config_text, seed)) = &self.rebuilding else { return Vec::new() };
        let doublings = self.fault_times.len().saturating_sub(1).min(16) as u32;
        let wait = Nanos(config.rebuild_backoff.0.saturating_mul(1 << doublings));
        vec![Action::Rebuild {
            generation: author.generation,
            digest: author.label.digest.clone(),
            config: config_text.clone(),
            seed: *seed,
            at: now + wait,
        }]
    }

    /// The previous policy takes over again, or the fallback where there is none.
    fn fall_back_to_standby(&mut self, from: Arc<PolicyLabel>, reason: RollbackReason, now: Nanos) -> Vec<Action> {
        self.probation = None;
        self.rebuilding = None;
        self.fault_times.clear();
        if let Some(standby) = self.standby.take() {
            self.active = Some(standby);
            let result = self.active.as_mut().map(|a| tell_if_stale(a, &self.briefing, now, self.log.as_deref_mut()));
            if let Some(Err(fault)) = result {
                self.count_fault(&fault);
                self.active = None;
            }
        }
        self.swaps += 1;
        vec![Action::Swapped(self.report(from, true, Some(reason)))]
    }

    /// Back to the policy before this one, because somebody asked or the probation says so.
    pub(crate) fn roll_back(&mut self, reason: RollbackReason, now: Nanos) -> Vec<Action> {
        if self.standby.is_none() {
            let from = self.author().label.clone();
            let refused = Some("there is no previous policy to go back to".to_owned());
            return vec![Action::Swapped(SwapReport { refused, ..self.report(from, false, None) })];
        }
        match self.active.take() {
            Some(active) => {
                self.log(now, LogEntry::Dropped { generation: active.author.generation.0, fault: None });
                self.fall_back_to_standby(active.author.label, reason, now)
            }
            None => Vec::new(),
        }
    }

    pub(super) fn count_fault(&mut self, fault: &Fault) {
        *self.faults.entry(fault.class).or_default() += 1;
        self.last_fault = Some(fault.clone());
    }
}
