// Symbols to elements: steps, then Haar levels. One invocation per element, with levels per 2x2 elements. The result is
// NCHW without gaps. Reference: bps_codec::ff, the way back.

@group(0) @binding(0) var<storage, read_write> symbols: array<u32>;
// Two words a plane: its step, and four signed bytes, the lowest first: where the bins of 0, 1, 2 and all greater
// magnitudes are reconstructed, in 1/128 steps from their middle.
@group(0) @binding(1) var<storage, read_write> table: array<u32>;
// Floats, as bits: exceptions come among them.
@group(0) @binding(2) var<storage, read_write> values: array<u32>;
@group(0) @binding(3) var<uniform> plan: Plan;

// A band's value at a place of a chunk's channel.
fn value(row: u32, channel: u32, band: u32, line: u32, column: u32) -> f32 {
    let part = channel / plan.chunk_channels;
    let inside = channel % plan.chunk_channels;
    let channels = channels_of(part);
    let level = select(plan.levels, 1u, band > 3u);
    let columns = halved(plan.width, level);
    let size = halved(plan.height, level) * columns;
    var at = (row * plan.row_chunks + part) * plan.chunk_blocks * 32u;
    if (band > 0u) {
        at += plan.coarse_blocks * 32u + (min(band, 4u) - 1u) * channels
            * halved(plan.height, plan.levels) * halved(plan.width, plan.levels);
    }
    if (band > 4u) {
        at += (band - 4u) * channels * size;
    }
    let place = line * columns + column;
    at += select(inside * size + place, place * channels + inside, plan.channels_inside == 1u);
    let symbol = bitcast<i32>(symbols[at / 2u] << (16u - 16u * (at % 2u))) >> 16u;
    let magnitude = u32(abs(symbol));
    let entry = entry_of(row, part, band, channel);
    let offsets = table[entry + 1u];
    let offset = f32(bitcast<i32>(offsets << (24u - 8u * min(magnitude, 3u))) >> 24u) * 0.0078125;
    let product = (f32(magnitude) + offset) * bitcast<f32>(table[entry]);
    // The sign last: it changes no bit but its own.
    return rounded(bitcast<f32>(bitcast<u32>(product) ^ (bitcast<u32>(symbol) & 0x80000000u)));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
    let reach = min(plan.levels, 1u);
    let lines = max(halved(plan.height, reach), 1u);
    let columns = max(halved(plan.width, reach), 1u);
    let plane = i / (lines * columns);
    let row = plane / max(plan.channels, 1u);
    if (row >= plan.rows) {
        return;
    }
    let channel = plane % plan.channels;
    let line = i / columns % lines;
    let column = i % columns;
    let base = ((plan.first_row + row) * plan.channels + channel) * plan.height * plan.width;
    if (plan.levels == 0u) {
        values[base + line * plan.width + column] = bitcast<u32>(value(row, channel, 0u, line, column));
        return;
    }
    var coarse = 0.0;
    var details = 1u;
    if (plan.levels == 1u) {
        coarse = value(row, channel, 0u, line, column);
    } else {
        details = 4u;
        let quad = butterfly(
            value(row, channel, 0u, line / 2u, column / 2u),
            value(row, channel, 1u, line / 2u, column / 2u),
            value(row, channel, 2u, line / 2u, column / 2u),
            value(row, channel, 3u, line / 2u, column / 2u),
        );
        coarse = quad[2u * (line % 2u) + column % 2u];
    }
    let quad = butterfly(
        coarse,
        value(row, channel, details, line, column),
        value(row, channel, details + 1u, line, column),
        value(row, channel, details + 2u, line, column),
    );
    for (var k = 0u; k < 4u; k++) {
        let y = 2u * line + k / 2u;
        let x = 2u * column + k % 2u;
        if (y < plan.height && x < plan.width) {
            values[base + y * plan.width + x] = bitcast<u32>(quad[k]);
        }
    }
}
