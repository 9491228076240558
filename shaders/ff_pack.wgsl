// Bitmaps and values of all blocks that are not empty, behind the widths: bitmaps without gaps, then the values of each
// sequence from a word on. One invocation per block, one workgroup per group. A word that a block fills alone is stored,
// others are added to. Reference: bps_codec::ff::pack.

@group(0) @binding(0) var<storage, read_write> symbols: array<u32>;
// As ff_widths and ff_scan leave them; words that are shared are zero.
@group(0) @binding(1) var<storage, read_write> before: array<u32>;
@group(0) @binding(2) var<storage, read_write> totals: array<u32>;
@group(0) @binding(3) var<storage, read_write> summary: array<u32>;
@group(0) @binding(4) var<storage, read_write> packed: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> plan: Plan;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = group_of(group_id.x + group_id.y * groups.x);
    if (local >= group.blocks) {
        return;
    }
    let block = group.first + local;
    let width = (atomicLoad(&packed[block / 8u]) >> (4u * (block % 8u))) & 15u;
    if (width == 0u) {
        return;
    }
    let bits = width - 1u;
    let signed_symbols = group.sequence == 1u || summary[4u + 16u * group.chunk] != 0u;
    let group_bits = totals[2u * group.index + 1u] - totals[2u * group.sequence_start + 1u];
    let sequence_bit = 32u * summary[sequence_head(group.chunk, group.sequence) + 2u];
    let start = sequence_bit + group_bits + (before[block] & 0xfffffu);
    var at = plan.width_words + summary[1] + start / 32u;
    // What is not written yet, and how many bits of the word that is.
    var pending = 0u;
    var filled = start % 32u;
    var alone = filled == 0u;
    var bitmap = 0u;
    for (var i = 0u; i < 32u; i++) {
        let word = symbols[block * 16u + i / 2u];
        let symbol = bitcast<i32>(word << (16u - 16u * (i % 2u))) >> 16u;
        if (symbol != 0) {
            bitmap |= 1u << i;
            let magnitude = u32(abs(symbol));
            let value = select(magnitude, 2u * magnitude - select(0u, 1u, symbol > 0), signed_symbols) - 1u;
            pending |= value << filled;
            filled += bits;
            if (filled >= 32u) {
                if (alone) {
                    atomicStore(&packed[at], pending);
                } else {
                    atomicOr(&packed[at], pending);
                }
                alone = true;
                at += 1u;
                filled -= 32u;
                // The bits that had no room: at most 14.
                pending = value >> min(bits - filled, 31u);
            }
        }
    }
    if (filled > 0u && bits > 0u) {
        atomicOr(&packed[at], pending);
    }
    atomicStore(&packed[plan.width_words + totals[2u * group.index] + (before[block] >> 20u)], bitmap);
}
