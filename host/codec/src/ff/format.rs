//! The frame around runs of chunks.
//!
//! ```text
//! byte 0          4      5         6    7        8             16
//!      +----------+------+---------+----+--------+--------------+
//!      | "FFv1"   | mode | entropy | q  | flags  | package id   |
//!      +----------+------+---------+----+--------+--------------+
//!      16         20     24        28   30  32  34  36          40
//!      +----------+------+---------+----+---+---+---+-----------+
//!      | stream 0 | seq 0| ref 0   | N  | C | H | W | payload   |
//!      | u32      | u32  | u32     | u16 each       | bytes u32 |
//!      +----------+------+---------+----+---+---+---+-----------+
//!      40                    + 4 a run              + payload        + 4
//!      +----------------------+----------------------+---------------+
//!      | bytes of each run    | runs, one behind     | CRC32C of all |
//!      | u32                  | another              | before, u32   |
//!      +----------------------+----------------------+---------------+
//! ```
//!
//! Everything is little-endian. Mode: 2 scalar, 3 and 4 Haar with one and two levels (0 and 1 belong to raw and f16, which
//! are codecs of their own; 5 is reserved). Entropy: 0 packed, 1 packed and zstd, 2 rANS. Flags: 1 bounded, 2 NHWC, 4
//! classes for every plane, 8 wide. The three words from byte 16 are kept for streams and are zero. `N C H W` count rows,
//! channels, lines and columns whatever the order in memory; in a wide frame `H W` are 1 and `C` and `H` hold the low and
//! the high half of the channels.
//!
//! **Chunks.** Each row has `ceil(C / k)` of them, row after row, with `k = 65536 / (H * W)` rounded down to a multiple of
//! 4, at least 4: the first `k` channels, the next, and so on. A tensor without elements has none.
//!
//! **Runs.** With rANS, `65536 / (C * H * W)` rows rounded down, at least one, share a run where a row is one chunk; else
//! each chunk is a run of its own. The last run has what is left.

use super::error::fault;
use super::geometry::Dims;
use super::recipe::Choice;
use super::{Entropy, FfError, Mode, Order};

/// Bytes before the run sizes.
pub(super) const HEADER_BYTES: usize = 40;
/// Bytes of the checksum at the end.
const CRC_BYTES: usize = 4;
const MAGIC: [u8; 4] = *b"FFv1";

const BOUNDED: u8 = 1;
const NHWC: u8 = 2;
const PLANE_CLASSES: u8 = 4;
const WIDE: u8 = 8;

/// Puts a frame together. Errors where its payload has 4 GiB or more.
pub(super) fn write(choice: Choice, package: u64, dims: Dims, runs: &[Vec<u8>]) -> Result<Vec<u8>, FfError> {
    let payload: usize = runs.iter().map(Vec::len).sum();
    let payload_bytes = u32::try_from(payload).map_err(|_| fault(36, "payload bytes", "4 GiB or more"))?;
    let wide = dims.channels > 0xffff;
    let flags = [(choice.bounded, BOUNDED), (choice.order == Order::Nhwc, NHWC)].into_iter();
    let flags = flags.chain([(choice.plane_classes, PLANE_CLASSES), (wide, WIDE)]);
    let flags = flags.filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
    let mut out = Vec::with_capacity(HEADER_BYTES + 4 * runs.len() + payload + CRC_BYTES);
    out.extend(MAGIC);
    out.extend([choice.mode.number(), choice.entropy.number(), choice.q, flags]);
    out.extend(package.to_le_bytes());
    out.extend([0; 12]);
    let height = if wide { dims.channels >> 16 } else { dims.height };
    for extent in [dims.rows, dims.channels & 0xffff, height, dims.width] {
        out.extend((extent as u16).to_le_bytes());
    }
    out.extend(payload_bytes.to_le_bytes());
    runs.iter().for_each(|run| out.extend((run.len() as u32).to_le_bytes()));
    runs.iter().for_each(|run| out.extend_from_slice(run));
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    Ok(out)
}

/// What a frame's first 40 bytes say.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) choice: Choice,
    pub(super) package: u64,
    pub(super) dims: Dims,
    payload_bytes: usize,
}

impl Header {
    /// Reads it. Errors with the offset of what is wrong.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, FfError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(fault(bytes.len(), "header", format!("{HEADER_BYTES} bytes expected, got {}", bytes.len())));
        };
        if header[..4] != MAGIC {
            return Err(fault(0, "magic", "not an FF frame of version 1"));
        }
        let mode =
            Mode::from_number(header[4]).ok_or_else(|| fault(4, "mode", format!("there is no {}", header[4])))?;
        let entropy =
            Entropy::from_number(header[5]).ok_or_else(|| fault(5, "entropy", format!("there is no {}", header[5])))?;
        let (q, flags) = (header[6], header[7]);
        if usize::from(q) >= super::RATES {
            return Err(fault(6, "rate", format!("there is no {q}")));
        }
        if flags & !(BOUNDED | NHWC | PLANE_CLASSES | WIDE) != 0 {
            return Err(fault(7, "flags", format!("unknown flags {flags:#04x}")));
        }
        if header[16..28] != [0; 12] {
            return Err(fault(16, "stream", "streams are not part of this version"));
        }
        let number = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (rows, low, height, width) = (number(28), number(30), number(32), number(34));
        let wide = flags & WIDE != 0;
        if wide && (height == 0 || width != 1) {
            return Err(fault(30, "shape", "a wide frame has at least 65,536 channels of one element"));
        }
        let (channels, height) = if wide { (low | height << 16, 1) } else { (low, height) };
        let order = if flags & NHWC != 0 { Order::Nhwc } else { Order::Nchw };
        let choice = Choice {
            mode,
            entropy,
            order,
            q,
            bounded: flags & BOUNDED != 0,
            plane_classes: flags & PLANE_CLASSES != 0,
        };
        let payload_bytes = u32::from_le_bytes([header[36], header[37], header[38], header[39]]) as usize;
        let package = u64::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
        Ok(Self { choice, package, dims: Dims { rows, channels, height, width }, payload_bytes })
    }

    /// The runs of a frame, each with its offset. `dims` are those that the receiver expects, so that nothing that the
    /// frame declares is allocated for.
    pub(super) fn runs<'a>(&self, bytes: &'a [u8], dims: Dims) -> Result<Vec<(usize, &'a [u8])>, FfError> {
        if self.dims != dims {
            let list = |d: Dims| [d.rows, d.channels, d.height, d.width];
            let message = format!("{:?} (rows, channels, lines, columns), expected {:?}", list(self.dims), list(dims));
            return Err(fault(28, "shape", message));
        }
        let count = dims.run_count(self.choice.entropy);
        let payload_at = HEADER_BYTES + 4 * count;
        let expected = payload_at + self.payload_bytes + CRC_BYTES;
        if bytes.len() != expected {
            return Err(fault(36, "payload bytes", format!("frame of {expected} bytes expected, got {}", bytes.len())));
        }
        let (body, crc) = bytes.split_at(payload_at + self.payload_bytes);
        let (said, real) = (crc.first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc)), crc32c::crc32c(body));
        if said != real {
            return Err(fault(body.len(), "checksum", format!("{said:08x}, but the bytes have {real:08x}")));
        }
        let mut runs = Vec::with_capacity(count);
        let mut at = payload_at;
        for (index, size) in body[HEADER_BYTES..payload_at].as_chunks::<4>().0.iter().enumerate() {
            let size = u32::from_le_bytes(*size) as usize;
            let Some(run) = body.get(at..at + size) else {
                return Err(fault(HEADER_BYTES + 4 * index, "run sizes", "more than the payload"));
            };
            runs.push((at, run));
            at += size;
        }
        if at != body.len() {
            return Err(fault(payload_at, "run sizes", format!("{} bytes of payload are in no run", body.len() - at)));
        }
        Ok(runs)
    }
}
