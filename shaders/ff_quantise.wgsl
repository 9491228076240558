// Elements to symbols: Haar levels, then steps. One invocation per word of two symbols; each gathers what its symbols are
// made of. Reference: bps_codec::ff, steps 1 to 3 of a row.

// Floats, as bits.
@group(0) @binding(0) var<storage, read_write> values: array<u32>;
// Two words a plane: the reciprocal of its step, and the greatest magnitude of an element of its channel.
@group(0) @binding(1) var<storage, read_write> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> symbols: array<u32>;
// First the number of exceptions. From word 4 on 16 words a chunk: whether the coarsest band has symbols below zero, a
// free word, and two words (the lower first) for the sum of magnitudes of each band. Zeros at the start.
@group(0) @binding(3) var<storage, read_write> summary: array<atomic<u32>>;
// Two words an exception: its place among all elements (rows, channels, lines, columns) and its bits. In no order.
@group(0) @binding(4) var<storage, read_write> exceptions: array<u32>;
@group(0) @binding(5) var<uniform> plan: Plan;

// The greatest magnitude of a symbol.
const SYMBOL_MAX: f32 = 8192.0;

var<workgroup> below_zero: atomic<u32>;
var<workgroup> sums: array<atomic<u32>, 7>;

fn address(row: u32, channel: u32, line: u32, column: u32) -> u32 {
    return row * plan.row_stride + channel * plan.channel_stride + line * plan.line_stride + column * plan.column_stride;
}

// An element; 0 in the place of an exception.
fn element(base: u32, line: u32, column: u32, limit: u32) -> f32 {
    let bits = values[base + line * plan.line_stride + column * plan.column_stride];
    return bitcast<f32>(select(bits, 0u, (bits & 0x7fffffffu) > limit));
}

// The four bands of the first level at a place; a missing last line or column repeats the one before.
fn first_level(base: u32, line: u32, column: u32, limit: u32) -> vec4<f32> {
    let bottom = min(2u * line + 1u, plan.height - 1u);
    let right = min(2u * column + 1u, plan.width - 1u);
    return butterfly(
        element(base, 2u * line, 2u * column, limit),
        element(base, 2u * line, right, limit),
        element(base, bottom, 2u * column, limit),
        element(base, bottom, right, limit),
    );
}

fn second_level(base: u32, line: u32, column: u32, limit: u32) -> vec4<f32> {
    let bottom = min(2u * line + 1u, halved(plan.height, 1u) - 1u);
    let right = min(2u * column + 1u, halved(plan.width, 1u) - 1u);
    return butterfly(
        first_level(base, 2u * line, 2u * column, limit).x,
        first_level(base, 2u * line, right, limit).x,
        first_level(base, bottom, 2u * column, limit).x,
        first_level(base, bottom, right, limit).x,
    );
}

fn coefficient(base: u32, band: u32, line: u32, column: u32, limit: u32) -> f32 {
    if (plan.levels == 0u) {
        return element(base, line, column, limit);
    }
    if (plan.levels == 1u) {
        return first_level(base, line, column, limit)[min(band, 3u)];
    }
    if (band < 4u) {
        return second_level(base, line, column, limit)[band];
    }
    return first_level(base, line, column, limit)[min(band - 3u, 3u)];
}

// Notes the exceptions among the elements that a place of the coarsest band is made of.
fn note(row: u32, channel: u32, line: u32, column: u32, limit: u32) {
    let side = 1u << plan.levels;
    for (var i = 0u; i < side * side; i++) {
        let y = line * side + i / side;
        let x = column * side + i % side;
        if (y < plan.height && x < plan.width) {
            let bits = values[address(row, channel, y, x)];
            if ((bits & 0x7fffffffu) > limit) {
                let slot = atomicAdd(&summary[0], 1u);
                if (slot < plan.exceptions) {
                    exceptions[2u * slot] = ((row * plan.channels + channel) * plan.height + y) * plan.width + x;
                    exceptions[2u * slot + 1u] = bits;
                }
            }
        }
    }
}

// The symbol at a position of a sequence; 0 behind its end.
fn symbol(row: u32, part: u32, sequence: u32, position: u32) -> i32 {
    let channels = max(channels_of(part), 1u);
    var size = halved(plan.height, plan.levels) * halved(plan.width, plan.levels);
    var columns = halved(plan.width, plan.levels);
    var band = 0u;
    var within = position;
    if (sequence == 0u) {
        if (position >= size * channels) {
            return 0;
        }
    } else if (position < 3u * size * channels) {
        band = 1u + position / (size * channels);
        within = position % (size * channels);
    } else {
        within = position - 3u * size * channels;
        size = halved(plan.height, 1u) * halved(plan.width, 1u);
        columns = halved(plan.width, 1u);
        band = 4u + within / (size * channels);
        within = within % (size * channels);
        if (plan.levels < 2u || band > 6u) {
            return 0;
        }
    }
    var inside = within / size;
    var place = within % size;
    if (plan.channels_inside == 1u) {
        inside = within % channels;
        place = within / channels;
    }
    let channel = part * plan.chunk_channels + inside;
    let line = place / columns;
    let column = place % columns;
    let entry = entry_of(row, part, band, channel);
    let limit = table[entry + 1u];
    let value = coefficient(address(row, channel, 0u, 0u), band, line, column, limit);
    let round = select(plan.round_detail, plan.round_coarse, band == 0u);
    let steps = rounded(abs(value) * bitcast<f32>(table[entry])) + round;
    let magnitude = i32(min(steps, SYMBOL_MAX));
    let negative = magnitude > 0 && (bitcast<u32>(value) & 0x80000000u) != 0u;
    atomicAdd(&sums[band], u32(magnitude));
    if (band == 0u) {
        if (negative) {
            atomicOr(&below_zero, 1u);
        }
        note(row, channel, line, column, limit);
    }
    return select(magnitude, -magnitude, negative);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.x + group.y * groups.x;
    let chunk_words = plan.chunk_blocks * 16u;
    let chunk_groups = max((chunk_words + 255u) / 256u, 1u);
    let chunk = index / chunk_groups;
    if (local == 7u) {
        atomicStore(&below_zero, 0u);
    } else if (local < 7u) {
        atomicStore(&sums[local], 0u);
    }
    workgroupBarrier();
    let word = (index % chunk_groups) * 256u + local;
    if (chunk < chunk_count() && word < chunk_words) {
        let row = chunk / plan.row_chunks;
        let part = chunk % plan.row_chunks;
        let sequence = select(0u, 1u, word >= plan.coarse_blocks * 16u);
        let position = 2u * (word - sequence * plan.coarse_blocks * 16u);
        let low = symbol(row, part, sequence, position);
        let high = symbol(row, part, sequence, position + 1u);
        symbols[chunk * chunk_words + word] = (bitcast<u32>(low) & 0xffffu) | (bitcast<u32>(high) << 16u);
    }
    workgroupBarrier();
    if (chunk < chunk_count()) {
        let head = 4u + 16u * chunk;
        if (local == 7u && atomicLoad(&below_zero) != 0u) {
            atomicOr(&summary[head], 1u);
        }
        if (local < 7u) {
            let sum = atomicLoad(&sums[local]);
            if (sum > 0u) {
                let before = atomicAdd(&summary[head + 2u + 2u * local], sum);
                // It went round.
                if (before + sum < before) {
                    atomicAdd(&summary[head + 3u + 2u * local], 1u);
                }
            }
        }
    }
}
