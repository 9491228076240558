//! Planes of symbols through contexts and [`rans`](super::rans).
//!
//! Channels are coded in groups of four lanes. Of a group first comes its coarsest band, then the next, and of a band
//! its places line by line, all lanes of a place before the next place. A lane therefore sees what is left of, above and
//! in the coarser band below it, and four chains of dependent steps run side by side. The chunks of a run go on where the one
//! before ended.

use super::geometry::{Bands, LANES};
use super::rans::Table;
use super::tables::{Kind, NEIGHBOURS, PARENTS, Scale};

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

/// What is known of a chunk before its symbols.
pub(super) struct Model<'a> {
    pub(super) bands: Bands,
    /// Channels of the chunk.
    pub(super) channels: usize,
    /// Whether the coarsest band may be below zero.
    pub(super) signed: bool,
    pub(super) tables: &'a [Table],
    /// Steps of the first four bands of a channel relative to the first, in 1/256; only for two levels.
    pub(super) ratios: &'a [[i32; 4]],
}

impl Model<'_> {
    fn kind(&self, band: usize) -> Kind {
        Kind::of(self.bands.levels, band, self.signed)
    }

    /// The kind of all planes where each is one symbol: nothing is around any of them, so that groups, bands and lines come
    /// down to channel after channel.
    fn flat(&self) -> Option<Kind> {
        (self.bands.symbols == 1).then(|| self.kind(0))
    }

    /// First channels of the groups, and their sizes.
    fn groups(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + use<> {
        let channels = self.channels;
        (0..channels.div_ceil(LANES)).map(move |g| (g * LANES, LANES.min(channels - g * LANES)))
    }

    /// Levels of the coarser band at every place of a detail, one plane a lane. `parents` keeps them from band to band.
    pub(super) fn parents(&self, band: usize, first: usize, lanes: usize, symbols: &[i16], parents: &mut Vec<u8>) {
        let plane = self.bands.all()[band].plane();
        match band {
            0 => {}
            1 => {
                let from = self.bands.start(0, self.channels) + first * plane;
                parents.clear();
                parents.extend(symbols[from..from + lanes * plane].iter().map(|s| level(i32::from(*s))));
            }
            4 => {
                let fine = self.bands.all()[band];
                parents.clear();
                parents.resize(lanes * plane, 0);
                for (lane, out) in parents.chunks_exact_mut(plane).enumerate() {
                    self.finer_parents(first + lane, symbols, fine.width, out);
                }
            }
            _ => {}
        }
    }

    /// The finer map that the first four bands of a channel make, in integers alone: the same on every device.
    fn finer_parents(&self, channel: usize, symbols: &[i16], width: usize, out: &mut [u8]) {
        let coarse = self.bands.all()[0];
        let of = |band: usize| {
            &symbols[self.bands.start(band, self.channels) + channel * coarse.plane()..][..coarse.plane()]
        };
        let quads = [of(0), of(1), of(2), of(3)];
        // They are 4,096 at most.
        let [r0, r1, r2, r3] = self.ratios.get(channel).copied().unwrap_or([256; 4]).map(|ratio| ratio as i16);
        let times = |symbol: i16, ratio: i16| i32::from(symbol) * i32::from(ratio);
        let finer = |value: i32| level((value.abs() + 256) >> 9);
        // Apart first and of the whole plane, then side by side: so most of it becomes vector instructions.
        let plane = coarse.plane();
        let mut levels = vec![0u8; 4 * plane];
        let (above, below) = levels.split_at_mut(2 * plane);
        let ((a, b), (c, d)) = (above.split_at_mut(plane), below.split_at_mut(plane));
        let [ll, lh, hl, hh] = quads;
        let places = a.iter_mut().zip(b).zip(c.iter_mut().zip(d)).zip(ll.iter().zip(lh).zip(hl.iter().zip(hh)));
        for (((a, b), (c, d)), ((ll, lh), (hl, hh))) in places {
            let (ll, lh, hl, hh) = (times(*ll, r0), times(*lh, r1), times(*hl, r2), times(*hh, r3));
            *a = finer(ll + lh + hl + hh);
            *b = finer(ll - lh + hl - hh);
            *c = finer(ll + lh - hl - hh);
            *d = finer(ll - lh - hl + hh);
        }
        for (y, line) in out.chunks_mut(width).enumerate() {
            let (left, right) = if y % 2 == 0 { above.split_at(plane) } else { below.split_at(plane) };
            let from = y / 2 * coarse.width;
            let (left, right) = (&left[from..from + coarse.width], &right[from..from + coarse.width]);
            let (pairs, last) = line.as_chunks_mut::<2>();
            pairs.iter_mut().zip(left.iter().zip(right)).for_each(|(pair, (left, right))| *pair = [*left, *right]);
            last.iter_mut().zip(left.last()).for_each(|(out, left)| *out = *left);
        }
    }
}

/// The level of a parent.
fn level(symbol: i32) -> u8 {
    symbol.abs().min(PARENTS as i32 - 1) as u8
}

/// How classes of planes travel.
pub(super) enum Classes<'a> {
    /// Both ends have them: band after band, channels inside.
    Known(&'a [u8]),
    /// In front of every plane, as differences; these are what the first of each band differ from.
    InBand(&'a [u8], &'a Table),
}

/// The table of every symbol of a plane. `around` is room that is used again and again.
pub(super) fn pick_tables(
    plane: &[i16],
    width: usize,
    scale: Scale,
    parents: &[u8],
    (around, tables): (&mut Vec<u16>, &mut [u16]),
) {
    // What each counts as a neighbour, behind a line of zeros: nothing is above the first one.
    around.resize(width + plane.len(), 0);
    around[..width].fill(0);
    around[width..].iter_mut().zip(plane).for_each(|(magnitude, symbol)| *magnitude = scale.magnitude(*symbol));
    // Of the whole plane at once, however short its lines are: the first of each has the last of the line before on its
    // left, which is taken back.
    let (above, left) = (&around[..], &around[width.saturating_sub(1)..]);
    let neighbours = left.iter().zip(above);
    tables.iter_mut().zip(neighbours).for_each(|(table, (left, above))| *table = scale.base + left + above);
    let firsts = tables.iter_mut().step_by(width.max(1));
    firsts.zip(left.iter().step_by(width.max(1))).for_each(|(table, left)| *table -= left);
    tables.iter_mut().zip(parents).for_each(|(table, parent)| *table += NEIGHBOURS as u16 * u16::from(*parent));
}
