//! How many rows a message to another host holds where the way there and back is what takes long.
//!
//! A dispatch keeps its place on the other device until it is answered. Where that is the way's doing and not the device's,
//! one of few rows keeps it for as long as one of more, and what each costs two hosts, which is in no table, counts; but many
//! rows in one leave the other places empty, and one part of the way waits while another works. Alone each looks good: few
//! rows are answered sooner, and what is left over goes with the next. So both happen in turn, unless messages are even.

use bps_policy_planner::{Line, Way};

/// Rows that are worth a message.
const MESSAGE_ROWS: u32 = 8;
/// A longer line goes in so many messages.
const MESSAGES: u32 = 4;

/// Requests and rows of the next message, as even as the line allows. None where the slowest part of the way takes twice as
/// long as it is until the other device has its next place, on this host, and where a deadline would be missed.
pub(crate) fn even_message(way: &Way<'_>, line: &Line, rows_max: u32, waiting: u32) -> Option<(u32, u32)> {
    let spans = way.spans(MESSAGE_ROWS);
    if 2.0 * way.apart(&spans) <= spans.slowest() {
        return None;
    }
    let (count, rows) = line.fit(rows_max.min(MESSAGE_ROWS.max(waiting.div_ceil(MESSAGES))));
    let ends = way.ends(rows);
    let more = u64::from(waiting.saturating_sub(rows).div_ceil(rows.max(1)));
    let last = ends.first.saturating_add(ends.next.saturating_mul(more));
    line.budgets.iter().all(|budget| last <= *budget).then_some((count, rows))
}
