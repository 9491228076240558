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

// Sums of magnitudes of the bands that are not the workgroup's first.
var<workgroup> sums: array<atomic<u32>, 8>;
// Of the first band, by invocation: magnitudes, and above them one bit that there was one below zero.
var<workgroup> first_band: array<u32, 256>;
// At most 512 times 8192 below it.
const BELOW_ZERO: u32 = 0x800000u;

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

// The band that a position of a sequence is in, and the position in it. Behind the end there is band 7.
fn band_at(channels: u32, sequence: u32, position: u32) -> vec2<u32> {
    let coarse = max(halved(plan.height, plan.levels) * halved(plan.width, plan.levels) * channels, 1u);
    if (sequence == 0u) {
        return vec2<u32>(select(7u, 0u, position < coarse), position);
    }
    if (position < 3u * coarse) {
        return vec2<u32>(1u + position / coarse, position % coarse);
    }
    let fine = max(halved(plan.height, 1u) * halved(plan.width, 1u) * channels, 1u);
    let rest = position - 3u * coarse;
    let band = 4u + rest / fine;
    return vec2<u32>(select(7u, band, plan.levels > 1u && band < 7u), rest % fine);
}

// The symbol at a position of a band.
fn symbol(row: u32, part: u32, channels: u32, band: u32, position: u32) -> i32 {
    let level = select(plan.levels, 1u, band > 3u);
    let columns = halved(plan.width, level);
    let size = halved(plan.height, level) * columns;
    var inside = position / size;
    var place = position % size;
    if (plan.channels_inside == 1u) {
        inside = position % channels;
        place = position / channels;
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
    if (band == 0u) {
        note(row, channel, line, column, limit);
    }
    return select(magnitude, -magnitude, (bitcast<u32>(value) & 0x80000000u) != 0u);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.x + group.y * groups.x;
    let chunk_words = plan.chunk_blocks * 16u;
    let coarse_words = plan.coarse_blocks * 16u;
    let chunk_groups = max((chunk_words + 255u) / 256u, 1u);
    let chunk = index / chunk_groups;
    let row = chunk / max(plan.row_chunks, 1u);
    let part = chunk % max(plan.row_chunks, 1u);
    let channels = max(channels_of(part), 1u);
    // The band of the workgroup's first symbol, which most of the others share.
    let start = index % chunk_groups * 256u;
    let start_sequence = select(0u, 1u, start >= coarse_words);
    let leading = band_at(channels, start_sequence, 2u * (start - start_sequence * coarse_words)).x;
    if (local < 8u) {
        atomicStore(&sums[local], 0u);
    }
    workgroupBarrier();
    let word = start + local;
    var own = 0u;
    if (chunk < chunk_count() && word < chunk_words) {
        let sequence = select(0u, 1u, word >= coarse_words);
        let position = 2u * (word - sequence * coarse_words);
        var both = 0u;
        for (var i = 0u; i < 2u; i++) {
            let at = band_at(channels, sequence, position + i);
            if (at.x < 7u) {
                let made = symbol(row, part, channels, at.x, at.y);
                both |= (bitcast<u32>(made) & 0xffffu) << (16u * i);
                if (at.x == leading) {
                    own = (own + u32(abs(made))) | select(0u, BELOW_ZERO, made < 0);
                } else {
                    atomicAdd(&sums[at.x], u32(abs(made)));
                }
            }
        }
        symbols[chunk * chunk_words + word] = both;
    }
    first_band[local] = own;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (local < half) {
            let sum = (first_band[local] & (BELOW_ZERO - 1u)) + (first_band[local + half] & (BELOW_ZERO - 1u));
            first_band[local] = sum | ((first_band[local] | first_band[local + half]) & BELOW_ZERO);
        }
        workgroupBarrier();
    }
    if (chunk < chunk_count() && local < 7u) {
        let head = 4u + 16u * chunk;
        var sum = atomicLoad(&sums[local]);
        if (local == leading) {
            sum = first_band[0] & (BELOW_ZERO - 1u);
        }
        // Band 0 is all of sequence 0, so that it is the first of every workgroup that meets it.
        if (local == 0u && leading == 0u && (first_band[0] & BELOW_ZERO) != 0u) {
            atomicOr(&summary[head], 1u);
        }
        if (sum > 0u) {
            let before = atomicAdd(&summary[head + 2u + 2u * local], sum);
            // It went round.
            if (before + sum < before) {
                atomicAdd(&summary[head + 3u + 2u * local], 1u);
            }
        }
    }
}
