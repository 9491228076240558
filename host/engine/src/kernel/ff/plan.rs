//! What a kernel must know of a tensor: the struct at the head of `shaders/ff.wgsl`.

use super::{BLOCK, GROUP, PAIR, VALUE_BITS_MAX, WIDTHS};
use crate::JobError;
use crate::kernel::count;
use bps_codec::ff::{Geometry, Order};
use burn::cubecl::client::Client;

/// Words of the struct.
pub(super) const PLAN_WORDS: usize = 32;

/// How symbols are dealt out to words, blocks and groups.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) geometry: Geometry,
    /// Blocks of sequence 0, and of both.
    blocks: [usize; 2],
    /// Groups of sequence 0, and of both.
    groups: [usize; 2],
}

/// What differs from kernel to kernel; the names are those of the struct.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Details {
    /// Row, channel, line, column.
    pub(super) strides: [usize; 4],
    /// Row, chunk, band, channel.
    pub(super) table: [usize; 4],
    pub(super) rounding: [f32; 2],
    pub(super) steps_max: f32,
    /// Factor, least, greatest.
    pub(super) step: [f32; 3],
    pub(super) power_groups: usize,
    pub(super) exceptions: usize,
    pub(super) first_row: usize,
}

impl Plan {
    /// None where there are no elements, or more than kernels count.
    pub(super) fn new(geometry: Geometry) -> Option<Self> {
        let elements = [geometry.rows, geometry.channels, geometry.height, geometry.width];
        let elements = elements.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent))?;
        let [coarse, details] = geometry.sequences(geometry.chunk_channels.min(geometry.channels));
        let blocks = |symbols: usize| symbols.div_ceil(BLOCK).next_multiple_of(WIDTHS);
        let (coarse, details) = (blocks(coarse), if details == 0 { 0 } else { blocks(details) });
        let groups = |blocks: usize| blocks.div_ceil(GROUP);
        let groups = [groups(coarse), groups(coarse) + groups(details)];
        let plan = Self { geometry, blocks: [coarse, coarse + details], groups };
        // Bits of values are counted through all sequences, each of which may end with an unused part of a word.
        let bits = plan.block_count().checked_mul(BLOCK)?.checked_mul(VALUE_BITS_MAX + 2)?;
        (elements > 0 && u32::try_from(bits).is_ok()).then_some(plan)
    }

    pub(super) fn elements(&self) -> usize {
        self.geometry.rows * self.row_elements()
    }

    pub(super) fn row_elements(&self) -> usize {
        self.geometry.channels * self.geometry.height * self.geometry.width
    }

    pub(super) fn chunk_count(&self) -> usize {
        self.geometry.rows * self.geometry.row_chunks()
    }

    /// Packed sequences of a chunk: one without levels.
    pub(super) fn chunk_sequences(&self) -> usize {
        if self.geometry.levels == 0 { 1 } else { 2 }
    }

    /// Of a chunk.
    pub(super) fn chunk_words(&self) -> usize {
        self.blocks[1] * BLOCK / PAIR
    }

    pub(super) fn symbol_words(&self) -> usize {
        self.chunk_count() * self.chunk_words()
    }

    pub(super) fn block_count(&self) -> usize {
        self.chunk_count() * self.blocks[1]
    }

    pub(super) fn group_count(&self) -> usize {
        self.chunk_count() * self.groups[1]
    }

    /// The first group of a chunk's sequence.
    pub(super) fn group_at(&self, chunk: usize, sequence: usize) -> usize {
        chunk * self.groups[1] + sequence * self.groups[0]
    }

    /// The first block of a chunk's sequence.
    pub(super) fn block_at(&self, chunk: usize, sequence: usize) -> usize {
        chunk * self.blocks[1] + sequence * self.blocks[0]
    }

    pub(super) fn width_words(&self) -> usize {
        self.block_count() / WIDTHS
    }

    /// Words of widths, bitmaps and values, whatever the symbols are.
    pub(super) fn packed_words_max(&self) -> usize {
        let values = (self.block_count() * BLOCK * VALUE_BITS_MAX).div_ceil(32);
        self.width_words() + self.block_count() + values + self.chunk_count() * self.chunk_sequences() + 1
    }

    /// Whether the buffers find room on a device, each by itself.
    pub(super) fn fits(&self, client: &Client) -> bool {
        let largest = self.symbol_words().max(self.packed_words_max()).max(self.elements());
        4 * largest as u64 <= client.properties().memory.max_page_size
    }

    /// The struct's words.
    pub(super) fn words(&self, details: &Details) -> Result<[u32; PLAN_WORDS], JobError> {
        let mut words = [0; PLAN_WORDS];
        for (word, (_, value)) in words.iter_mut().zip(self.members(details)?) {
            *word = value;
        }
        Ok(words)
    }

    /// The struct's members, in order.
    fn members(&self, details: &Details) -> Result<Vec<(&'static str, u32)>, JobError> {
        let Geometry { rows, channels, height, width, levels, chunk_channels, order, .. } = self.geometry;
        let [row_stride, channel_stride, line_stride, column_stride] = details.strides;
        let [table_row, table_chunk, table_band, table_channel] = details.table;
        let number = |(name, value): (&'static str, usize)| count(value).map(|value| (name, value));
        let real = |(name, value): (&'static str, f32)| (name, value.to_bits());
        let mut members = [
            ("rows", rows),
            ("channels", channels),
            ("height", height),
            ("width", width),
            ("row_stride", row_stride),
            ("channel_stride", channel_stride),
            ("line_stride", line_stride),
            ("column_stride", column_stride),
            ("chunk_channels", chunk_channels),
            ("row_chunks", self.geometry.row_chunks()),
            ("levels", levels),
            ("channels_inside", usize::from(order == Order::Nhwc)),
            ("coarse_blocks", self.blocks[0]),
            ("chunk_blocks", self.blocks[1]),
            ("coarse_groups", self.groups[0]),
            ("chunk_groups", self.groups[1]),
            ("table_row", table_row),
            ("table_chunk", table_chunk),
            ("table_band", table_band),
            ("table_channel", table_channel),
        ]
        .map(number)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
        members.extend(
            [
                ("round_coarse", details.rounding[0]),
                ("round_detail", details.rounding[1]),
                ("steps_max", details.steps_max),
                ("step_factor", details.step[0]),
                ("step_least", details.step[1]),
                ("step_greatest", details.step[2]),
            ]
            .map(real),
        );
        let rest = [
            ("power_groups", details.power_groups),
            ("exceptions", details.exceptions),
            ("first_row", details.first_row),
            ("width_words", self.width_words()),
            ("zero", 0),
            ("reserved", 0),
        ];
        members.extend(rest.map(number).into_iter().collect::<Result<Vec<_>, _>>()?);
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::shader::Shader;

    fn plan(shape: [usize; 4], bands: &[[usize; 2]]) -> Plan {
        let [rows, channels, height, width] = shape;
        let (levels, chunk_channels, order) = (bands.len() / 3, 4, Order::Nchw);
        let bands = bands.to_vec();
        Plan::new(Geometry { rows, channels, height, width, levels, bands, chunk_channels, order }).unwrap()
    }

    #[test]
    fn members_are_those_of_the_struct() {
        let wanted = plan([1, 1, 1, 1], &[[1, 1]]).members(&Details::default()).unwrap();
        assert_eq!(wanted.len(), PLAN_WORDS);
        for shader in Shader::ALL {
            let module = naga::front::wgsl::parse_str(shader.text()).unwrap();
            let found = module.types.iter().find(|(_, t)| t.name.as_deref() == Some("Plan"));
            let Some((_, found)) = found else { continue };
            let naga::TypeInner::Struct { members, span } = &found.inner else { panic!("{found:?}") };
            assert_eq!(*span as usize, 4 * PLAN_WORDS);
            let names: Vec<_> = members.iter().filter_map(|m| m.name.as_deref()).collect();
            assert_eq!(names, wanted.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{shader:?}");
            assert!(members.iter().enumerate().all(|(i, m)| m.offset as usize == 4 * i));
        }
    }

    #[test]
    fn sequences_begin_with_whole_words_of_widths() {
        // A row's second chunk has one channel and as much room as the first.
        let plan = plan([2, 5, 9, 11], &[[5, 6], [5, 6], [5, 6], [5, 6]]);
        assert_eq!((plan.blocks, plan.groups), ([8, 24], [1, 2]));
        assert_eq!((plan.chunk_count(), plan.block_count(), plan.group_count()), (4, 96, 8));
        assert_eq!((plan.block_at(1, 1), plan.group_at(1, 1), plan.width_words()), (32, 3, 12));
        assert_eq!((plan.symbol_words(), plan.elements(), plan.chunk_sequences()), (96 * 16, 990, 2));
    }

    #[test]
    fn nothing_and_too_much_have_no_plan() {
        let of = |rows, channels, width| {
            let (height, levels, chunk_channels, order) = (1, 0, 65_536, Order::Nchw);
            let bands = vec![[height, width]];
            Plan::new(Geometry { rows, channels, height, width, levels, bands, chunk_channels, order })
        };
        assert!(of(0, 4, 4).is_none() && of(1, 0, 1).is_none());
        assert!(of(1, 1 << 27, 1).is_some());
        assert!(of(4, 1 << 27, 1).is_none());
    }
}
