//! Shapes: how a tensor is cut into chunks, how these make runs, and a chunk into bands.

use super::{Entropy, FfError, Mode, Order};
use crate::VALUE_BYTES_MAX;
use std::ops::Range;

/// Channels that are coded side by side: as many chains of dependent steps a core can overlap.
pub(super) const LANES: usize = 4;

/// A chunk has at most about so many elements: small enough for a core's second cache and to keep several cores busy,
/// large enough that its head is lost in the rest.
const CHUNK_ELEMENTS: usize = 1 << 16;

/// Extents of a tensor. Activations of a fully connected layer are channels of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) rows: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Dims {
    /// Reads a shape, whose extents stand in the order of memory.
    pub(super) fn of(shape: &[usize], order: Order) -> Result<Self, FfError> {
        let no = |why| FfError::Shape { got: shape.to_vec(), why };
        let (rows, channels, height, width) = match (shape, order) {
            ([], _) => (1, 1, 1, 1),
            (&[rows], _) => (rows, 1, 1, 1),
            (&[rows, channels], _) => (rows, channels, 1, 1),
            (&[rows, channels, width], Order::Nchw) | (&[rows, width, channels], Order::Nhwc) => {
                (rows, channels, 1, width)
            }
            (&[rows, channels, height, width], Order::Nchw) | (&[rows, height, width, channels], Order::Nhwc) => {
                (rows, channels, height, width)
            }
            _ => return Err(no("at most four extents")),
        };
        let bytes = [rows, channels, height, width, 4].iter().try_fold(1usize, |n, e| n.checked_mul((*e).max(1)));
        if bytes.is_none_or(|b| b > VALUE_BYTES_MAX) {
            return Err(no("it is too large"));
        }
        let flat = height == 1 && width == 1;
        if rows > 0xffff || height > 0xffff || width > 0xffff || (channels > 0xffff && !flat) {
            return Err(no("at most 65,535 rows, channels, lines and columns"));
        }
        Ok(Self { rows, channels, height, width })
    }

    /// Channels, height, width.
    pub(super) fn row_shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Elements of one channel of one row.
    pub(super) fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Elements of one row.
    pub(super) fn row_elements(&self) -> usize {
        self.channels * self.plane()
    }

    /// Elements of all rows.
    pub(super) fn elements(&self) -> usize {
        self.rows * self.row_elements()
    }

    /// Channels of every chunk but a row's last; a multiple of [`LANES`].
    pub(super) fn chunk_channels(&self) -> usize {
        let fit = CHUNK_ELEMENTS / self.plane().max(1) / LANES * LANES;
        fit.max(LANES)
    }

    /// Elements of every chunk but a row's last.
    pub(super) fn chunk_elements(&self) -> usize {
        self.chunk_channels().min(self.channels) * self.plane()
    }

    /// Chunks of all rows, row after row.
    pub(super) fn chunk_count(&self) -> usize {
        if self.elements() == 0 { 0 } else { self.rows * self.row_chunks() }
    }

    fn row_chunks(&self) -> usize {
        self.channels.div_ceil(self.chunk_channels()).max(1)
    }

    /// Chunks of every run but the last. With rANS, small rows share one: a coder's states are as many bytes as a small row.
    pub(super) fn run_chunks(&self, entropy: Entropy) -> usize {
        match entropy {
            Entropy::Rans if self.row_chunks() == 1 => (CHUNK_ELEMENTS / self.row_elements().max(1)).max(1),
            _ => 1,
        }
    }

    /// Elements of every run but the last, or but a row's last where that is several runs.
    pub(super) fn run_elements(&self, entropy: Entropy) -> usize {
        self.run_chunks(entropy) * self.chunk_elements()
    }

    /// The chunks of a run.
    pub(super) fn run(&self, run: usize, entropy: Entropy) -> Range<usize> {
        let chunks = self.run_chunks(entropy);
        run * chunks..((run + 1) * chunks).min(self.chunk_count())
    }

    /// Runs of all rows.
    pub(super) fn run_count(&self, entropy: Entropy) -> usize {
        self.chunk_count().div_ceil(self.run_chunks(entropy))
    }

    /// The first channel of a chunk and how many there are.
    pub(super) fn chunk_range(&self, chunk: usize) -> (usize, usize) {
        let first = chunk % self.row_chunks() * self.chunk_channels();
        (first, self.chunk_channels().min(self.channels - first))
    }
}

/// The largest equal part of so many elements that fits in a core's first cache; all of them where there are only small
/// ones.
pub(super) fn tile(elements: usize) -> usize {
    const MOST: usize = 4_096;
    const LEAST: usize = 512;
    let equal = |parts: &usize| elements.is_multiple_of(*parts);
    (elements.div_ceil(MOST).max(1)..=elements / LEAST).find(equal).map_or(elements, |parts| elements / parts)
}

/// How the elements of a frame are dealt out to chunks and bands: what a device must know of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Rows of the tensor.
    pub rows: usize,
    /// Channels of a row.
    pub channels: usize,
    /// Lines of a channel.
    pub height: usize,
    /// Columns of a channel.
    pub width: usize,
    /// Haar levels that are done: 0 to 2.
    pub levels: usize,
    /// Lines and columns of each band, coarsest first.
    pub bands: Vec<[usize; 2]>,
    /// Channels of every chunk but a row's last.
    pub chunk_channels: usize,
    /// Order of the symbols of a band: channel after channel, or place after place.
    pub order: Order,
}

impl Geometry {
    pub(super) fn new(dims: Dims, bands: &Bands, order: Order) -> Self {
        let Dims { rows, channels, height, width } = dims;
        let chunk_channels = dims.chunk_channels();
        let levels = bands.levels;
        let bands = bands.all().iter().map(|band| [band.height, band.width]).collect();
        Self { rows, channels, height, width, levels, bands, chunk_channels, order }
    }

    /// Chunks of a row.
    pub fn row_chunks(&self) -> usize {
        self.channels.div_ceil(self.chunk_channels)
    }

    /// Channels of a chunk, counted through all rows.
    pub fn channels_of(&self, chunk: usize) -> usize {
        let first = chunk % self.row_chunks().max(1) * self.chunk_channels;
        self.chunk_channels.min(self.channels.saturating_sub(first))
    }

    /// Symbols of the packed sequences of a chunk of so many channels: the coarsest band, and all others.
    pub fn sequences(&self, channels: usize) -> [usize; 2] {
        let symbols = |bands: &[[usize; 2]]| bands.iter().map(|[lines, columns]| lines * columns * channels).sum();
        [symbols(&self.bands[..1]), symbols(&self.bands[1..])]
    }
}

/// One band of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Band {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Symbols of a channel in the bands before.
    pub(super) before: usize,
}

impl Band {
    pub(super) fn plane(&self) -> usize {
        self.height * self.width
    }
}

/// Bands of a channel, coarsest first: one without levels, `LL LH HL HH` with one, `LL2 LH2 HL2 HH2 LH1 HL1 HH1` with two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    /// Haar levels that are done: none on a map of one element, one where two leave nothing to do.
    pub(super) levels: usize,
    list: [Band; 7],
    /// Symbols of a channel.
    pub(super) symbols: usize,
}

impl Bands {
    pub(super) fn of(mode: Mode, height: usize, width: usize) -> Self {
        let mut sizes = [(height, width); 3];
        let mut levels = 0;
        while levels < mode.levels() && sizes[levels].0 * sizes[levels].1 > 1 {
            sizes[levels + 1] = (sizes[levels].0.div_ceil(2), sizes[levels].1.div_ceil(2));
            levels += 1;
        }
        let mut bands = Self { levels, list: [Band::default(); 7], symbols: 0 };
        for index in 0..bands.count() {
            // The coarsest band and its three details have the last size, the next three the one before.
            let level = if index < 4 { levels } else { levels - 1 };
            let (height, width) = sizes[level];
            bands.list[index] = Band { height, width, before: bands.symbols };
            bands.symbols += height * width;
        }
        bands
    }

    pub(super) fn count(&self) -> usize {
        1 + 3 * self.levels
    }

    pub(super) fn all(&self) -> &[Band] {
        &self.list[..self.count()]
    }

    /// Where the symbols of a band begin in a chunk of so many channels: bands one after another, channels inside.
    pub(super) fn start(&self, band: usize, channels: usize) -> usize {
        self.list[band].before * channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_in_memory_order() {
        let dims = |rows, channels, height, width| Dims { rows, channels, height, width };
        assert_eq!(Dims::of(&[2, 3, 4, 5], Order::Nchw).unwrap(), dims(2, 3, 4, 5));
        assert_eq!(Dims::of(&[2, 4, 5, 3], Order::Nhwc).unwrap(), dims(2, 3, 4, 5));
        assert_eq!(Dims::of(&[2, 100_000], Order::Nchw).unwrap(), dims(2, 100_000, 1, 1));
        assert_eq!(Dims::of(&[2, 3, 9], Order::Nhwc).unwrap(), dims(2, 9, 1, 3));
        assert_eq!(Dims::of(&[], Order::Nchw).unwrap(), dims(1, 1, 1, 1));
        for shape in [&[1, 70_000, 2, 1][..], &[1, 2, 3, 4, 5], &[1 << 15, 1 << 15, 2, 2], &[usize::MAX, 2]] {
            assert!(Dims::of(shape, Order::Nchw).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn chunks_cover_all_channels_once() {
        for shape in [[3, 7, 100, 100], [1, 64, 56, 56], [2, 5, 1, 1], [1, 1, 300, 300], [2, 9, 90, 90]] {
            let dims = Dims::of(&shape, Order::Nchw).unwrap();
            let ranges: Vec<_> = (0..dims.chunk_count()).map(|c| dims.chunk_range(c)).collect();
            let elements: usize = ranges.iter().map(|(_, n)| n * dims.plane()).sum();
            assert_eq!(elements, dims.elements(), "{shape:?}");
            assert!(ranges.iter().filter(|(first, _)| *first == 0).count() == dims.rows);
        }
        assert_eq!(Dims::of(&[0, 5, 2, 2], Order::Nchw).unwrap().chunk_count(), 0);
    }

    #[test]
    fn tiles_are_equal_and_fit() {
        // 4,097 is 17 times 241, which is too small; 8,209 is prime.
        for (elements, wanted) in [(0, 0), (100, 100), (4_096, 4_096), (50_176, 3_584), (4_097, 4_097), (8_209, 8_209)]
        {
            assert_eq!(tile(elements), wanted);
        }
        for elements in (1..70_000).step_by(37) {
            let tile = tile(elements);
            assert!(elements.is_multiple_of(tile) && (tile == elements || (512..=4_096).contains(&tile)), "{elements}");
        }
    }

    #[test]
    fn small_rows_share_runs() {
        let runs = |shape: [usize; 4], entropy| {
            let dims = Dims::of(&shape, Order::Nchw).unwrap();
            let runs: Vec<_> = (0..dims.run_count(entropy)).map(|run| dims.run(run, entropy)).collect();
            assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), (0..dims.chunk_count()).collect::<Vec<_>>());
            runs
        };
        // 65,536 elements are 128 rows of 512, and one of 40,000; a row of 70,000 is two chunks.
        assert_eq!(runs([300, 32, 4, 4], Entropy::Rans), [0..128, 128..256, 256..300]);
        assert_eq!(runs([2, 4, 100, 100], Entropy::Rans), [0..1, 1..2]);
        assert_eq!(runs([2, 7, 100, 100], Entropy::Rans).len(), 4);
        assert_eq!(runs([300, 32, 4, 4], Entropy::Pack).len(), 300);
        assert_eq!(runs([0, 32, 4, 4], Entropy::Rans), []);
    }

    #[test]
    fn bands_follow_the_map() {
        let counts = |mode, h, w| Bands::of(mode, h, w).all().iter().map(Band::plane).collect::<Vec<_>>();
        assert_eq!(counts(Mode::Scalar, 5, 6), [30]);
        assert_eq!(counts(Mode::Haar1, 5, 6), [9, 9, 9, 9]);
        assert_eq!(counts(Mode::Haar2, 5, 6), [4, 4, 4, 4, 9, 9, 9]);
        assert_eq!(counts(Mode::Haar2, 2, 1), [1, 1, 1, 1]);
        assert_eq!(counts(Mode::Haar2, 1, 1), [1]);
        assert_eq!(Bands::of(Mode::Haar2, 0, 6).count(), 1);
    }
}
