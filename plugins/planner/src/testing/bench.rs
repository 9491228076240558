//! A policy in virtual time: devices, the link's two directions, credits, and clients. Costs are what the tables say, times a
//! device's true slow-down; each part works on one thing at a time, in order.

mod view;

use super::{Cell, LOCAL, MODEL, REMOTE, tables, world};
use bps_policy_sdk::{Nanos, Outcome, Policy, Selection, Stage, Trigger, World};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Dispatches that another host's device takes at once.
const WINDOW: u32 = 8;
/// And one of this host.
const CREDITS: u32 = 2;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many, each again as soon as it is answered.
    Clients(u32),
    /// One request every so many nanoseconds.
    Every(Nanos),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Answers a second, the first fifth of the time left out.
    pub per_second: f64,
    /// Median time from asking to answer, in nanoseconds.
    pub latency_p50: f64,
    /// 95 of 100 are below.
    pub latency_p95: f64,
    /// Dispatches that the host would have refused, and the first of them.
    pub refused: Vec<String>,
    /// Dispatches by the cut at which they left this host; the last cut for those that did not.
    pub cuts: BTreeMap<u32, u32>,
    /// Part of the time that this host's device, the way there, the other's device and the way back worked.
    pub busy: [f64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Ask,
    /// The part is done with its first piece.
    Done(usize),
    /// A piece gets to a part after its way.
    Reach(u64, usize),
    Answer(u64),
    Wake,
}

/// Parts in a piece's order: this host's device, the way there, the other's device, the way back.
const PARTS: usize = 4;
const HERE: usize = 0;
const THERE: usize = 1;
const TAIL: usize = 2;
const BACK: usize = 3;

struct Piece {
    requests: Vec<(u64, Nanos)>,
    stages: Vec<Stage>,
    tag: u64,
    spans: [f64; PARTS],
    bytes: f64,
    /// The dispatch it is a piece of.
    dispatch: u64,
    began: Nanos,
    /// Which stage runs; from when it is handed to the link, the tail's.
    stage: u8,
    /// It is with the other host, on the way there or on its device.
    away: bool,
}

impl Piece {
    /// Where it left this host.
    fn cut(&self) -> u32 {
        self.stages.first().filter(|stage| stage.device == LOCAL).map_or(0, |stage| stage.until_cut)
    }
}

/// A run.
pub struct Bench<P> {
    policy: P,
    world: World,
    cell: Cell,
    /// Real times over tabled ones, here and there.
    pub truth: [f64; 2],
    now: Nanos,
    order: BinaryHeap<Reverse<(Nanos, u64, Happening)>>,
    made: u64,
    waiting: VecDeque<(u64, Nanos)>,
    pieces: BTreeMap<u64, Piece>,
    lines: [VecDeque<u64>; PARTS],
    /// Pieces that each part works on together: the other host joins what waits and is alike.
    joined: [usize; PARTS],
    worked: [f64; PARTS],
    /// Pieces of each dispatch that are still to pass this host's device, and the other's.
    open: BTreeMap<u64, [u32; 2]>,
    outcomes: Vec<Outcome>,
    answered: Vec<(Nanos, Nanos)>,
    load: Load,
    wake: Option<Nanos>,
    /// The link is up.
    pub link_up: bool,
    refused: Vec<String>,
    cuts: BTreeMap<u32, u32>,
}

impl<P: Policy> Bench<P> {
    /// A policy that has been told of a cell.
    pub fn new(cell: &Cell, accuracy_budget_ppm: u32, config: &str) -> Self {
        let info = self::world(&cell.network, 1, accuracy_budget_ppm);
        let mut policy = P::configure(config, 1).unwrap_or_else(|error| panic!("{config}: {error:?}"));
        let mut world = World::default();
        world.replace(info.clone());
        policy.world_changed(info);
        for table in tables(&cell.network, &cell.speeds) {
            world.insert(table.clone());
            policy.table_changed(table);
        }
        Self {
            policy,
            world,
            cell: cell.clone(),
            truth: [1.0, 1.0],
            now: 0,
            order: BinaryHeap::new(),
            made: 0,
            waiting: VecDeque::new(),
            pieces: BTreeMap::new(),
            lines: Default::default(),
            joined: [0; PARTS],
            worked: [0.0; PARTS],
            open: BTreeMap::new(),
            outcomes: vec![],
            answered: vec![],
            load: Load::Clients(1),
            wake: None,
            link_up: true,
            refused: vec![],
            cuts: BTreeMap::new(),
        }
    }

    /// Runs so long under a load.
    pub fn run(&mut self, load: Load, span: Nanos) -> Ran {
        let (begin, from) = (self.now, self.now + span / 5);
        self.load = load;
        match load {
            Load::Clients(count) => (0..count).for_each(|at| self.at(begin + Nanos::from(at), Happening::Ask)),
            Load::Every(_) => self.at(begin, Happening::Ask),
        }
        while let Some(Reverse((at, _, happening))) = self.order.pop() {
            if at > begin + span {
                break;
            }
            self.now = at;
            self.happen(happening);
        }
        self.now = begin + span;
        let counted: Vec<Nanos> =
            self.answered.iter().filter(|(at, _)| *at >= from).map(|(at, asked)| at - asked).collect();
        let mut sorted = counted.clone();
        sorted.sort_unstable();
        let rank =
            |share: f64| sorted.get((sorted.len() as f64 * share) as usize).map_or(f64::MAX, |time| *time as f64);
        Ran {
            per_second: counted.len() as f64 / (span as f64 * 0.8e-9),
            latency_p50: rank(0.5),
            latency_p95: rank(0.95),
            refused: self.refused.clone(),
            cuts: self.cuts.clone(),
            busy: self.worked.map(|nanos| nanos / span as f64),
        }
    }

    fn at(&mut self, at: Nanos, happening: Happening) {
        self.made += 1;
        self.order.push(Reverse((at, self.made, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        let trigger = match happening {
            Happening::Ask => {
                self.made += 1;
                self.waiting.push_back((self.made, self.now));
                if let Load::Every(span) = self.load {
                    self.at(self.now + span, Happening::Ask);
                }
                Trigger::Arrival
            }
            Happening::Wake if self.wake.is_some_and(|at| at <= self.now) => Trigger::Timer,
            Happening::Wake => return,
            Happening::Done(part) => {
                self.done(part);
                Trigger::Completion
            }
            Happening::Reach(id, part) => {
                self.enter(id, part);
                return;
            }
            Happening::Answer(id) => {
                self.answer(id);
                Trigger::Completion
            }
        };
        self.decide(trigger);
    }

    fn enter(&mut self, id: u64, part: usize) {
        self.lines[part].push_back(id);
        if part == THERE
            && let Some(piece) = self.pieces.get_mut(&id)
        {
            (piece.stage, piece.away) = (piece.stages.len() as u8 - 1, true);
        }
        if self.lines[part].len() == 1 {
            self.begin(part);
        }
    }

    fn begin(&mut self, part: usize) {
        let Some(first) = self.lines[part].front().and_then(|id| self.pieces.get(id)) else { return };
        let (mut count, mut rows, mut span) = (1, first.requests.len(), first.spans[part]);
        if part == TAIL {
            let alike = |piece: &&Piece| piece.stages.last() == first.stages.last() && piece.cut() == first.cut();
            let line = self.lines[part].iter().skip(1).filter_map(|id| self.pieces.get(id));
            for piece in line.take_while(alike).take_while(|piece| {
                rows += piece.requests.len();
                rows <= 32
            }) {
                count += 1;
                span += piece.spans[part];
            }
            if count > 1 {
                let ids: Vec<u64> = self.lines[part].iter().take(count).copied().collect();
                let pieces: Vec<&Piece> = ids.iter().filter_map(|id| self.pieces.get(id)).collect();
                let rows: u32 = pieces.iter().map(|piece| piece.requests.len() as u32).sum();
                let stages = first.stages.clone();
                span = self.costs(&stages, rows).0[TAIL];
                for id in ids {
                    self.pieces.entry(id).and_modify(|piece| piece.spans[TAIL] = span);
                }
            }
        }
        self.joined[part] = count;
        self.worked[part] += span;
        for id in self.lines[part].iter().take(count) {
            self.pieces.entry(*id).and_modify(|piece| piece.began = self.now);
        }
        self.at(self.now + span as Nanos, Happening::Done(part));
    }

    fn done(&mut self, part: usize) {
        let ids: Vec<u64> = self.lines[part].drain(..self.joined[part]).collect();
        self.begin(part);
        ids.into_iter().for_each(|id| self.go_on(id, part));
    }

    /// Where a piece goes after a part.
    fn go_on(&mut self, id: u64, part: usize) {
        let half = (self.cell.net.rtt_ms * 5e5) as Nanos;
        let Some(piece) = self.pieces.get(&id) else { return };
        let leaves = piece.stages.last().is_some_and(|stage| stage.device == REMOTE);
        let dispatch = piece.dispatch;
        match part {
            HERE | TAIL => {
                if let Some(open) = self.open.get_mut(&dispatch) {
                    open[usize::from(part == TAIL)] -= 1;
                }
                if part == TAIL {
                    self.pieces.entry(id).and_modify(|piece| piece.away = false);
                    self.enter(id, BACK);
                } else if leaves {
                    self.enter(id, THERE);
                } else {
                    self.answer(id);
                }
            }
            THERE => self.at(self.now + half, Happening::Reach(id, TAIL)),
            _ => self.at(self.now + half, Happening::Answer(id)),
        }
    }

    fn answer(&mut self, id: u64) {
        let Some(piece) = self.pieces.remove(&id) else { return };
        let times = [piece.spans[HERE], piece.spans[TAIL]];
        let stage = |stage: &Stage| times[usize::from(stage.device == REMOTE)] as Nanos;
        self.outcomes.push(Outcome {
            tag: piece.tag,
            generation: 1,
            model: MODEL,
            rows: piece.requests.len() as u32,
            wait: 0,
            total: self.now - piece.requests[0].1,
            bytes: piece.bytes as u64,
            stage_nanos: piece.stages.iter().map(stage).collect(),
            stage_devices: piece.stages.iter().map(|stage| stage.device).collect(),
            missed: 0,
            failed: 0,
        });
        for (_, asked) in piece.requests {
            self.answered.push((self.now, asked));
            if let Load::Clients(_) = self.load {
                self.at(self.now, Happening::Ask);
            }
        }
    }

    fn decide(&mut self, trigger: Trigger) {
        if self.waiting.is_empty() {
            let outcomes = std::mem::take(&mut self.outcomes);
            if !outcomes.is_empty() {
                self.policy.observe(&outcomes, 0);
            }
            return;
        }
        let now = self.snapshot(trigger);
        let decision = self.policy.decide(&now);
        for dispatch in decision.dispatches {
            let chosen: Vec<(u64, Nanos)> = match &dispatch.requests {
                Selection::Head(count) => self.waiting.iter().take(*count as usize).copied().collect(),
                Selection::These(ids) => self.waiting.iter().filter(|(id, _)| ids.contains(id)).copied().collect(),
            };
            if let Err(why) = self.check(&dispatch.stages, chosen.len(), dispatch.micro_batch) {
                self.refused.push(why);
                continue;
            }
            self.waiting.retain(|request| !chosen.contains(request));
            let first = dispatch.stages.first().filter(|stage| stage.device == LOCAL);
            let until = first.map_or(0, |stage| stage.until_cut);
            *self.cuts.entry(until).or_default() += 1;
            let piece = if dispatch.micro_batch == 0 { chosen.len() } else { dispatch.micro_batch as usize };
            self.made += 1;
            let group = self.made;
            let count = chosen.len().div_ceil(piece) as u32;
            let on = |device: u32| u32::from(dispatch.stages.iter().any(|stage| stage.device == device)) * count;
            self.open.insert(group, [on(LOCAL), on(REMOTE)]);
            for requests in chosen.chunks(piece) {
                self.launch(group, requests.to_vec(), &dispatch.stages, dispatch.tag);
            }
        }
        self.wake = decision.wake_after.map(|span| self.now + span.max(1));
        if let Some(at) = self.wake {
            self.at(at, Happening::Wake);
        }
    }

    fn launch(&mut self, dispatch: u64, requests: Vec<(u64, Nanos)>, stages: &[Stage], tag: u64) {
        let (spans, bytes, before) = self.costs(stages, requests.len() as u32);
        self.made += 1;
        let id = self.made;
        let stages = stages.to_vec();
        let first = if stages[0].device == LOCAL { HERE } else { THERE };
        let away = first == THERE;
        self.pieces
            .insert(id, Piece { requests, stages, tag, spans, bytes, dispatch, began: self.now, stage: 0, away });
        if before > 0.0 {
            self.at(self.now + before as Nanos, Happening::Reach(id, first));
        } else {
            self.enter(id, first);
        }
    }
}
