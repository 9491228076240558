//! A lane in the present: what each of its parts takes, and what comes of a batch that goes along it now.

use crate::{DeviceNow, Ends, Lane, LinkNow, Now};
use bps_policy_sdk::{Nanos, TABLE_BATCHES};

/// What a device holds may be others': no more of it counts as ours when its window is guessed.
const RUNNING_MAX: u32 = 4;

/// How far ahead of a link its next batch is handed over, nanoseconds, the round trip included: of the order of how old its
/// reports are.
const LINK_CUSHION: f64 = 20e6;

/// A lane with the devices and the link it uses.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Which.
    pub lane: &'a Lane,
    /// What runs its head.
    pub head: Option<&'a DeviceNow>,
    /// What runs its tail, and the way there.
    pub tail: Option<(&'a DeviceNow, &'a LinkNow)>,
}

/// Nanoseconds that a batch occupies each part of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spans {
    /// The device here, encoding included.
    pub head: f64,
    /// Encoding where there is no head: time, but no device's.
    pub encode: f64,
    /// The link on the way there.
    pub send: f64,
    /// The device there, decoding included.
    pub tail: f64,
    /// The link on the way back.
    pub back: f64,
}

impl Spans {
    /// The slowest part: batches that follow each other are so far apart.
    pub fn slowest(&self) -> f64 {
        self.head.max(self.send).max(self.tail).max(self.back)
    }
}

impl<'a> Way<'a> {
    /// None where a device or the link cannot be used.
    pub fn of(lane: &'a Lane, now: &'a Now) -> Option<Self> {
        let head = match lane.head {
            Some(id) => Some(now.device(id)?),
            None => None,
        };
        let tail = match lane.tail {
            Some(id) => Some((now.device(id)?, now.link(lane.host)?)),
            None => None,
        };
        Some(Self { lane, head, tail })
    }

    /// Whether every device on it takes one more dispatch.
    pub fn has_room(&self) -> bool {
        self.head.is_none_or(|device| device.credits > 0) && self.tail.is_none_or(|(device, _)| device.credits > 0)
    }

    /// What `rows` rows take of each part.
    pub fn spans(&self, rows: u32) -> Spans {
        let mut spans = Spans::default();
        let (lane, count, place) = (self.lane, f64::from(rows), Place::of(rows));
        if let Some(device) = self.head {
            spans.head = place.at(&lane.head_nanos) * device.factors[place.bucket];
        }
        if let Some((device, link)) = self.tail {
            let encode = f64::from(lane.encode_nanos) * count;
            match self.head {
                Some(_) => spans.head += encode,
                None => spans.encode = encode,
            }
            spans.send = f64::from(lane.bytes) * count / link.up;
            spans.tail = place.at(&lane.tail_nanos) * device.factors[place.bucket];
            spans.tail += f64::from(lane.decode_nanos) * count;
            spans.back = f64::from(lane.answer_bytes) * count / link.down;
        }
        spans
    }

    /// Nanoseconds until `rows` rows that go out now are answered, behind all that is under way.
    pub fn finish(&self, rows: u32) -> f64 {
        self.finish_of(&self.spans(rows))
    }

    /// The same where it is known what each part takes.
    pub fn finish_of(&self, spans: &Spans) -> f64 {
        let mut at = self.head.map_or(spans.encode, |device| device.free_in + spans.head);
        if let Some((device, link)) = self.tail {
            at = link.coming.start(link.up_free_in, at) + spans.send + link.rtt / 2.0;
            at = device.coming.start(device.free_in, at) + spans.tail;
            at = at.max(link.down_free_in) + spans.back + link.rtt / 2.0;
        }
        at
    }

    /// The same with nothing under way.
    pub fn time_alone(&self, rows: u32) -> f64 {
        let spans = self.spans(rows);
        let rtt = self.tail.map_or(0.0, |(_, link)| link.rtt);
        spans.encode + spans.head + spans.send + spans.tail + spans.back + rtt
    }

    /// The same in pieces of `piece` rows that overlap.
    pub fn finish_in_pieces(&self, rows: u32, piece: u32) -> f64 {
        let (spans, count) = (self.spans(piece), rows.div_ceil(piece.max(1)).max(1));
        self.finish_of(&spans) + spans.slowest() * f64::from(count - 1)
    }

    /// When batches of `rows` rows end that follow each other. The device at the end takes so many dispatches at a time:
    /// where the way there and back is long, small batches leave it empty between them.
    pub fn ends(&self, rows: u32) -> Ends {
        let spans = self.spans(rows);
        Ends { first: self.finish_of(&spans) as Nanos, next: spans.slowest().max(self.apart(&spans)) as Nanos }
    }

    /// How far apart the dispatches are that the device at the end takes, where each occupies one of its places for as long
    /// as it is on its way, there and back; 0 on this host.
    pub fn apart(&self, spans: &Spans) -> f64 {
        self.tail.map_or(0.0, |(device, link)| {
            let alone = spans.encode + spans.head + spans.send + spans.tail + spans.back + link.rtt;
            alone / f64::from((device.credits + device.running.min(RUNNING_MAX)).max(1))
        })
    }

    /// How long to hold a batch back, since until then it would only wait further down: what is handed over no longer
    /// grows and can no longer be given to somebody else. The first part may run dry for no moment, so its next batch is
    /// there `lead` before it is free; the parts after it have one more batch waiting.
    pub fn hold(&self, rows: u32, lead: f64) -> f64 {
        let spans = self.spans(rows);
        let (mut hold, mut at) = match self.head {
            Some(device) => (device.free_in - lead, device.free_in + spans.head),
            None => (0.0, spans.encode),
        };
        if let Some((device, link)) = self.tail {
            // What is known of the link's queue is tens of milliseconds old. A long round trip is slack enough.
            let cushion = if self.head.is_some() { spans.send.max(lead) } else { lead };
            let cushion = cushion.max(LINK_CUSHION - link.rtt);
            let starts = link.coming.start(link.up_free_in, at);
            hold = hold.max(starts - at - cushion - link.rtt);
            at = starts + spans.send + link.rtt / 2.0;
            hold = hold.max(device.coming.start(device.free_in, at) - at - spans.tail.max(lead) - link.rtt);
        }
        hold.max(0.0)
    }
}

/// Where a number of rows lies between the tables' batch sizes.
#[derive(Clone, Copy)]
struct Place {
    above: usize,
    share: f64,
    bucket: usize,
}

impl Place {
    fn of(rows: u32) -> Self {
        let last = TABLE_BATCHES.len() - 1;
        let bucket = TABLE_BATCHES.iter().position(|batch| *batch >= rows).unwrap_or(last);
        let above = bucket.max(1);
        let (low, high) = (f64::from(TABLE_BATCHES[above - 1]), f64::from(TABLE_BATCHES[above]));
        Self { above, share: (f64::from(rows) - low) / (high - low), bucket }
    }

    /// Linear between two entries, and beyond the last along its slope.
    fn at(&self, values: &[f32; TABLE_BATCHES.len()]) -> f64 {
        let (low, high) = (f64::from(values[self.above - 1]), f64::from(values[self.above]));
        (low + (high - low) * self.share).max(0.0)
    }
}
