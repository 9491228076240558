//! What time alone brings: timeouts, stalls, news for the policy, and when to wake next.

use super::Scheduler;
use crate::Action;
use bps_types::Nanos;
use bps_types::policy::Trigger;

impl Scheduler {
    /// Gives up stages that have taken too long; their requests are tried elsewhere.
    pub(super) fn time_out(&mut self, actions: &mut Vec<Action>) -> Option<Trigger> {
        let (late, _) = self.flights.timed_out(self.now);
        let any = !late.is_empty();
        for execution in late {
            self.stage_timed_out(execution, actions);
        }
        let joints = self.time_out_joints(actions);
        (any || joints).then_some(Trigger::Change)
    }

    /// Finds requests that the policy leaves lying although a capable device does nothing. (One that is busy and would
    /// take more is no proof: a good policy may well gather a batch for it. Nor is an idle one here, while others of the
    /// same model are being executed elsewhere.)
    pub(super) fn watch(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        let away = |model| self.flights.iter().any(|f| f.model == model && f.away.is_some());
        let lies = |q: &crate::queue::Queue| q.len() > 0 && self.device_idle_for(q.model.0) && !away(q.model);
        let runnable: Vec<bool> = self.queues.iter().map(lies).collect();
        let mut stalled = None;
        for (queue, runnable) in self.queues.iter_mut().zip(runnable) {
            if !runnable {
                queue.runnable_since = None;
                continue;
            }
            let since = *queue.runnable_since.get_or_insert(now);
            let slo = self.world.info.models.iter().find(|m| m.id == queue.model.0).map_or(Nanos::ZERO, |m| m.slo);
            let patience = self.config.stall_floor.max(slo + slo);
            let waited = queue.oldest().map_or(Nanos::ZERO, |oldest| now.since(oldest.max(since)));
            if waited > patience {
                queue.runnable_since = Some(now);
                stalled = Some(format!("queue {}: a request waited {waited} beside an idle device", queue.id));
            }
        }
        if let Some(message) = stalled {
            // A policy that waits for a link that is down is answered for, not blamed.
            if self.devices.values().any(|d| d.remote.is_some_and(|r| !r.reachable)) {
                tracing::debug!(message, "answered for by the fallback while a link is down");
            } else {
                actions.extend(self.slot.stalled(message, now, &self.config));
            }
            self.ask_natively(actions);
        }
    }

    fn ask_natively(&mut self, actions: &mut Vec<Action>) {
        self.fill_snapshot(Trigger::Change);
        let (decision, author) = self.slot.decide_natively(&self.snapshot);
        self.carry_out(decision, &author, actions);
    }

    /// Tells the policy what it should know, but never while somebody could be served instead.
    pub(super) fn tell_policy(&mut self, actions: &mut Vec<Action>) {
        if self.runnable() {
            return;
        }
        actions.extend(self.slot.catch_up(self.now, &self.config));
        while let Some(table) = self.corrected.pop_front() {
            self.share_table(&table, actions);
        }
        if !self.outcomes.is_empty() || self.outcomes_dropped > 0 {
            let outcomes = std::mem::take(&mut self.outcomes);
            let dropped = std::mem::take(&mut self.outcomes_dropped);
            actions.extend(self.slot.observe(&outcomes, dropped, self.now, &self.config));
            self.outcomes = outcomes;
            self.outcomes.clear();
        }
    }

    /// When another host's device, left alone for a while, is to be tried again by those who wait.
    fn next_pause_end(&self) -> Option<Nanos> {
        let ends = self.devices.values().filter_map(|d| d.remote.map(|r| r.paused_until));
        ends.filter(|at| *at > self.now && !self.queues.is_empty()).min()
    }

    /// Asks to be woken at the next time at which anything could change by itself.
    pub(super) fn plan_wake(&mut self, actions: &mut Vec<Action>) {
        let runnable = self.queues.iter().filter_map(|q| {
            let slo = self.world.info.models.iter().find(|m| m.id == q.model.0).map_or(Nanos::ZERO, |m| m.slo);
            let since = q.runnable_since?.max(q.oldest()?);
            Some(since + self.config.stall_floor.max(slo + slo) + Nanos(1))
        });
        let candidates = [
            self.deadlines.first().map(|(deadline, _)| *deadline),
            self.wake_policy.filter(|_| !self.queues.is_empty() || !self.arrivals.is_empty()),
            self.flights.timed_out(self.now).1,
            self.arrivals.timed_out(self.now).1,
            self.arrivals.next_deadline(),
            runnable.min(),
            self.next_pause_end(),
        ];
        let next = candidates.into_iter().flatten().min();
        if let Some(at) = next.filter(|_| next != self.last_wake || next.is_some_and(|at| at <= self.now)) {
            actions.push(Action::WakeAt(at));
        }
        self.last_wake = next;
    }
}
