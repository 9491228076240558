//! Making a decision row by row.

use crate::{Decision, Dispatch, Join, Nanos, QueueView, Selection, Stage};

/// A decision in the making. It remembers how much of each queue it has taken: rows of one queue follow on each other.
#[derive(Debug)]
pub struct DecisionBuilder {
    decision: Decision,
    /// (queue id, requests taken so far); a handful, so a list is quicker than a map.
    taken: Vec<(u32, u32)>,
}

impl Default for DecisionBuilder {
    fn default() -> Self {
        let decision = Decision { dispatches: vec![], joins: vec![], shed: vec![], wake_after: None };
        Self { decision, taken: vec![] }
    }
}

impl DecisionBuilder {
    /// Nothing yet: wait for the next event.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests of this queue's order have been taken.
    pub fn taken(&self, queue: u32) -> u32 {
        self.taken.iter().find(|(id, _)| *id == queue).map_or(0, |(_, count)| *count)
    }

    /// Begins a row: run requests of `queue`.
    pub fn run<'b, 'q>(&'b mut self, queue: &QueueView<'q>) -> Run<'b, 'q> {
        Run { builder: self, queue: *queue, count: 1, micro_batch: 0, tag: 0, why: 0 }
    }

    /// On a helper: run `take_rows` of the arrived rows together.
    pub fn join(&mut self, arrived: u32, take_rows: u32) {
        self.decision.joins.push(Join { arrived, take_rows });
    }

    /// Refuses a waiting request now rather than answer too late.
    pub fn shed(&mut self, request: u64) {
        self.decision.shed.push(request);
    }

    /// Asks to be asked again after `span` at the latest; the earliest such wish counts.
    pub fn wake_after(&mut self, span: Nanos) {
        self.decision.wake_after = Some(self.decision.wake_after.map_or(span, |earlier| earlier.min(span)));
    }

    /// How many rows there are.
    pub fn dispatch_count(&self) -> usize {
        self.decision.dispatches.len()
    }

    /// The decision.
    pub fn finish(self) -> Decision {
        self.decision
    }
}

/// A row in the making: `run(queue).head(n).why(w).on(device, last_cut)`.
#[derive(Debug)]
#[must_use = "a row is added by `on` or `along`"]
pub struct Run<'b, 'q> {
    builder: &'b mut DecisionBuilder,
    queue: QueueView<'q>,
    count: u32,
    micro_batch: u32,
    tag: u64,
    why: u32,
}

impl Run<'_, '_> {
    /// The next `count` requests of the queue's order that this decision has not taken yet; 1 unless said.
    pub fn head(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// Pieces of so many rows are executed on their own.
    pub fn micro_batch(self, rows: u32) -> Self {
        Self { micro_batch: rows, ..self }
    }

    /// A mark that comes back in the flight columns and the outcome.
    pub fn tag(self, tag: u64) -> Self {
        Self { tag, ..self }
    }

    /// Index into `Manifest::reasons`.
    pub fn why(self, why: u32) -> Self {
        Self { why, ..self }
    }

    /// Adds the row: the whole model on one device.
    pub fn on(self, device: u32, last_cut: u32) {
        self.along(vec![Stage { device, until_cut: last_cut, codec: 0, rate: 0 }]);
    }

    /// Adds the row: the model along these stages.
    pub fn along(self, stages: Vec<Stage>) {
        match self.builder.taken.iter_mut().find(|(id, _)| *id == self.queue.id) {
            Some((_, taken)) => *taken += self.count,
            None => self.builder.taken.push((self.queue.id, self.count)),
        }
        let Self { micro_batch, tag, why, .. } = self;
        // A head counts what the rows before this one have left.
        let requests = Selection::Head(self.count);
        let row = Dispatch { queue: self.queue.id, requests, stages, micro_batch, tag, why };
        self.builder.decision.dispatches.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot;

    #[test]
    fn a_second_run_of_a_queue_continues_where_the_first_ended() {
        let now = snapshot(&[(1, 5)], vec![]);
        let Some(queue) = now.queues().next() else { panic!("one queue") };
        let mut decision = DecisionBuilder::new();
        decision.run(&queue).head(2).on(1, 1);
        assert_eq!(decision.taken(1), 2);
        decision.run(&queue).head(3).tag(9).on(2, 1);
        assert_eq!((decision.taken(1), decision.taken(2)), (5, 0));
        let made = decision.finish();
        assert_eq!(made.dispatches[0].requests, Selection::Head(2));
        assert_eq!(made.dispatches[1].requests, Selection::Head(3));
        assert_eq!(made.dispatches[1].tag, 9);
    }

    #[test]
    fn the_earliest_wake_counts() {
        let mut decision = DecisionBuilder::new();
        decision.wake_after(50);
        decision.wake_after(80);
        decision.wake_after(20);
        assert_eq!(decision.finish().wake_after, Some(20));
    }
}
