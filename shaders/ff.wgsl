// What the kernels of FF share, in front of the text of each: the plan of a tensor and where its symbols stand.
// Format: bps_codec::ff.
//
// Symbols are 16-bit integers, two to a word, the first in the lower half. Each chunk has as many words, however many
// channels it has: its coarsest band (sequence 0), then, where there are levels, all others (sequence 1). Both begin at
// multiples of 256 symbols; what is behind a sequence's end is zero. Blocks are 32 symbols. A group is up to 256 blocks of
// one sequence, the share of a workgroup.

struct Plan {
    rows: u32,
    channels: u32,
    height: u32,
    width: u32,
    // Distances in memory, in elements; read only by what reads a tensor.
    row_stride: u32,
    channel_stride: u32,
    line_stride: u32,
    column_stride: u32,
    // Of every chunk but a row's last.
    chunk_channels: u32,
    // Chunks of a row.
    row_chunks: u32,
    // Haar levels: 0 to 2.
    levels: u32,
    // 1: symbols of a band stand place after place. 0: channel after channel.
    channels_inside: u32,
    // Blocks of sequence 0, and of both; multiples of 8.
    coarse_blocks: u32,
    chunk_blocks: u32,
    // Groups of sequence 0, and of both.
    coarse_groups: u32,
    chunk_groups: u32,
    // Distances in the table of planes, in entries of two words.
    table_row: u32,
    table_chunk: u32,
    table_band: u32,
    table_channel: u32,
    // Added before rounding down: to the coarsest band, to all others.
    round_coarse: f32,
    round_detail: f32,
    // How many steps an element may be large.
    steps_max: f32,
    // A row's step: its root mean square times this, within limits.
    step_factor: f32,
    step_least: f32,
    step_greatest: f32,
    // Workgroups that add up the squares of a row: at most 256.
    power_groups: u32,
    // Room for exceptions where they are found; their number where they are put back.
    exceptions: u32,
    // The row of the result that the first one becomes.
    first_row: u32,
    // Words of widths in front of packed symbols.
    width_words: u32,
    // Zero, which no compiler knows.
    zero: u32,
    reserved: u32,
}

// Makes a product a number of its own: compilers may fuse it with a sum behind it, which rounds otherwise.
fn rounded(product: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(product) ^ plan.zero);
}

// An extent behind so many levels.
fn halved(extent: u32, level: u32) -> u32 {
    return (extent + (1u << level) - 1u) >> level;
}

fn chunk_count() -> u32 {
    return plan.rows * plan.row_chunks;
}

// Channels of a row's chunk; at least one if there is such a chunk.
fn channels_of(part: u32) -> u32 {
    return min(plan.chunk_channels, plan.channels - min(plan.channels, part * plan.chunk_channels));
}

// Where the words of a sequence begin in the summary, behind 4 and those of all chunks.
fn sequence_head(chunk: u32, sequence: u32) -> u32 {
    return 4u + 16u * chunk_count() + 4u * (chunk * select(1u, 2u, plan.levels > 0u) + sequence);
}

// Where the entry of a plane begins in the table.
fn entry_of(row: u32, part: u32, band: u32, channel: u32) -> u32 {
    return 2u * (row * plan.table_row + part * plan.table_chunk + band * plan.table_band + channel * plan.table_channel);
}

// Both directions at once: the transform is its own inverse.
fn butterfly(a: f32, b: f32, c: f32, d: f32) -> vec4<f32> {
    let top_sum = a + b;
    let top_difference = a - b;
    let bottom_sum = c + d;
    let bottom_difference = c - d;
    return 0.5 * vec4<f32>(
        top_sum + bottom_sum,
        top_difference + bottom_difference,
        top_sum - bottom_sum,
        top_difference - bottom_difference,
    );
}

// A workgroup's share of the blocks.
struct Group {
    index: u32,
    chunk: u32,
    // 0 or 1.
    sequence: u32,
    // The first group of its sequence.
    sequence_start: u32,
    // Its first block, among those of all chunks.
    first: u32,
    // Its blocks; none behind the last group, since the grid overshoots.
    blocks: u32,
}

fn group_of(index: u32) -> Group {
    let chunk = index / max(plan.chunk_groups, 1u);
    let within = index % max(plan.chunk_groups, 1u);
    let sequence = select(0u, 1u, within >= plan.coarse_groups);
    let first = 256u * (within - sequence * plan.coarse_groups);
    let sequence_blocks = select(plan.coarse_blocks, plan.chunk_blocks - plan.coarse_blocks, sequence == 1u);
    let blocks = min(sequence_blocks - min(sequence_blocks, first), 256u);
    return Group(
        index,
        chunk,
        sequence,
        chunk * plan.chunk_groups + sequence * plan.coarse_groups,
        chunk * plan.chunk_blocks + sequence * plan.coarse_blocks + first,
        select(0u, blocks, chunk < chunk_count()),
    );
}
