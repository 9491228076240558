//! Making a decision row by row.

use crate::{Decision, Dispatch, Join, Nanos, QueueView, Room, Selection, Snapshot, Stage, World, economical_rows};
use std::cmp::Reverse;

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
        Run { builder: self, queue: *queue, count: 1, these: None, micro_batch: 0, tag: 0, why: 0 }
    }

    /// On a helper: run `take_rows` of the arrived rows together.
    pub fn join(&mut self, arrived: u32, take_rows: u32) {
        self.decision.joins.push(Join { arrived, take_rows });
    }

    /// On a helper: everything that has arrived and fits, the most pressing first, as far as devices take it. Call it
    /// before this host's own requests are given out: what arrived has come a long way. Rows are joined while that makes
    /// each of them cheaper; where it does not, those that follow would only make the first ones late.
    pub fn join_arrived(&mut self, world: &World, now: &Snapshot, room: &mut Room) {
        self.join_when_due(world, now, room, Nanos::MAX);
    }

    /// The same, but behind an execution that ends later than `lead` from now rows gather until the batch is full.
    pub fn join_when_due(&mut self, world: &World, now: &Snapshot, room: &mut Room, lead: Nanos) {
        let mut groups: Vec<_> = now.arrived.iter().collect();
        groups.sort_by_key(|group| (group.least_slack, Reverse(group.oldest_wait), group.id));
        for group in groups {
            let rows_max = world.model(group.model).map_or(group.waiting_rows, |model| model.batch_max).max(1);
            let mut left = group.waiting_rows;
            while left > 0 {
                let Some(device) = room.free(&[group.device]).next().copied() else { break };
                if device.running > 0 && device.backlog > lead && left < rows_max {
                    self.wake_after(device.backlog - lead);
                    break;
                }
                let most = left.min(rows_max);
                let cost = |rows: u32| {
                    let costs = world.costs();
                    costs.stage_nanos(group.model, group.device, rows, group.from_cut, group.until_cut).unwrap_or(0)
                };
                let rows = economical_rows(most, |rows| cost(rows) as f64);
                let after = device.backlog.saturating_add(cost(rows));
                room.give(group.device, cost(rows));
                self.join(group.id, rows);
                if rows < most {
                    // The first stage of the group may have more rows than that: the next snapshot shows what is left.
                    self.wake_after(after.saturating_sub(lead));
                    break;
                }
                left -= rows;
            }
        }
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
    /// Just these instead of a head.
    these: Option<Vec<u64>>,
    micro_batch: u32,
    tag: u64,
    why: u32,
}

impl Run<'_, '_> {
    /// The next `count` requests of the queue's order that this decision has not taken yet; 1 unless said.
    pub fn head(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// Just these requests, wherever in the queue they wait. Heads of later rows pass over them by themselves.
    pub fn these(self, ids: Vec<u64>) -> Self {
        Self { these: Some(ids), ..self }
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
        let count = self.these.as_ref().map_or(self.count, |ids| ids.len() as u32);
        match self.builder.taken.iter_mut().find(|(id, _)| *id == self.queue.id) {
            Some((_, taken)) => *taken += count,
            None => self.builder.taken.push((self.queue.id, count)),
        }
        let Self { micro_batch, tag, why, .. } = self;
        // A head counts what the rows before this one have left.
        let requests = self.these.map_or(Selection::Head(count), Selection::These);
        let row = Dispatch { queue: self.queue.id, requests, stages, micro_batch, tag, why };
        self.builder.decision.dispatches.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arrived;
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
    fn what_arrived_is_joined_by_slack_until_devices_are_full() {
        let mut world = World::default();
        world.replace(crate::testing::world(&[(1, "m")], 2));
        let mut now = snapshot(&[], vec![crate::testing::device(1, 0, 2), crate::testing::device(2, 0, 1)]);
        let group = |id, device, waiting_rows, least_slack| Arrived {
            id,
            model: 1,
            from_cut: 0,
            until_cut: 1,
            device,
            waiting_rows,
            oldest_wait: 0,
            least_slack,
        };
        now.arrived = vec![group(7, 1, 40, 900), group(8, 1, 3, 5), group(9, 2, 40, 1), group(10, 3, 1, 0)];
        let (mut decision, mut room) = (DecisionBuilder::new(), Room::of(&now));
        decision.join_arrived(&world, &now, &mut room);
        let joins: Vec<_> = decision.finish().joins.iter().map(|join| (join.arrived, join.take_rows)).collect();
        assert_eq!(joins, [(9, 32), (8, 3), (7, 32)], "device 3 is not there, and none takes more than it has credits");
    }

    #[test]
    fn rows_gather_behind_an_execution_that_is_far_from_done() {
        let mut world = World::default();
        world.replace(crate::testing::world(&[(1, "m")], 1));
        // (rows waiting, backlog, rows joined, wake)
        let cases =
            [(3, 0, Some(3), None), (3, 900, None, Some(800)), (3, 90, Some(3), None), (32, 900, Some(32), None)];
        for (waiting_rows, backlog, joined, wake) in cases {
            let mut now = snapshot(&[], vec![crate::testing::device(1, backlog, 1)]);
            let (id, model, from_cut, until_cut, device) = (7, 1, 0, 1, 1);
            let (oldest_wait, least_slack) = (0, 0);
            now.arrived =
                vec![Arrived { id, model, from_cut, until_cut, device, waiting_rows, oldest_wait, least_slack }];
            let (mut decision, mut room) = (DecisionBuilder::new(), Room::of(&now));
            decision.join_when_due(&world, &now, &mut room, 100);
            let made = decision.finish();
            assert_eq!(made.joins.first().map(|join| join.take_rows), joined, "{waiting_rows} rows behind {backlog}");
            assert_eq!(made.wake_after, wake);
        }
    }

    #[test]
    fn no_more_rows_are_joined_than_make_each_cheaper() {
        let mut world = World::default();
        world.replace(crate::testing::world(&[(1, "m")], 1));
        // (what 1, 2, 4, 8, 16 and 32 rows take, rows joined of 12, wake)
        let cases: [(&[f32], u32, Option<u64>); 2] = [
            (&[90.0, 100.0, 110.0, 120.0, 130.0, 140.0], 12, None),
            (&[90.0, 100.0, 200.0, 400.0, 800.0, 1600.0], 2, Some(0)),
        ];
        for (table, joined, wake) in cases {
            world.insert(crate::testing::stage_table(1, 1, table));
            let mut now = snapshot(&[], vec![crate::testing::device(1, 0, 2)]);
            let (id, model, from_cut, until_cut, device) = (7, 1, 0, 1, 1);
            let (waiting_rows, oldest_wait, least_slack) = (12, 0, 0);
            now.arrived =
                vec![Arrived { id, model, from_cut, until_cut, device, waiting_rows, oldest_wait, least_slack }];
            let (mut decision, mut room) = (DecisionBuilder::new(), Room::of(&now));
            decision.join_when_due(&world, &now, &mut room, 100);
            let made = decision.finish();
            assert_eq!(made.joins.iter().map(|join| join.take_rows).collect::<Vec<_>>(), [joined]);
            assert_eq!(made.wake_after, wake, "the other ten wait for the next snapshot");
        }
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
