// Packed symbols to symbols. One invocation per block, one workgroup per group. The processor has checked every width and
// bitmap, so that whatever they say is there. Reference: bps_codec::ff::pack.

// Widths, four bits a block; bitmaps; values.
@group(0) @binding(0) var<storage, read_write> packed: array<u32>;
// Three words a group: the word of its first bitmap, the bit of its first value, 1 if it has symbols below zero.
@group(0) @binding(1) var<storage, read_write> starts: array<u32>;
@group(0) @binding(2) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(3) var<uniform> plan: Plan;

var<workgroup> sums: array<u32, 256>;

// Adds up what the invocations before this one have.
fn sum_before(own: u32, local: u32) -> u32 {
    sums[local] = own;
    workgroupBarrier();
    for (var reach = 1u; reach < 256u; reach *= 2u) {
        var left = 0u;
        if (local >= reach) {
            left = sums[local - reach];
        }
        workgroupBarrier();
        sums[local] += left;
        workgroupBarrier();
    }
    let sum = sums[local] - own;
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = group_of(group_id.x + group_id.y * groups.x);
    let block = group.first + local;
    var width = 0u;
    if (local < group.blocks) {
        width = (packed[block / 8u] >> (4u * (block % 8u))) & 15u;
    }
    let bitmaps_before = sum_before(select(0u, 1u, width > 0u), local);
    var bitmap = 0u;
    if (width > 0u) {
        bitmap = packed[starts[3u * group.index] + bitmaps_before];
    }
    let bits = max(width, 1u) - 1u;
    let bits_before = sum_before(bits * countOneBits(bitmap), local);
    if (local >= group.blocks) {
        return;
    }
    let signed_symbols = starts[3u * group.index + 2u] == 1u;
    var at = starts[3u * group.index + 1u] + bits_before;
    for (var i = 0u; i < 16u; i++) {
        var word = 0u;
        for (var half = 0u; half < 2u; half++) {
            if (((bitmap >> (2u * i + half)) & 1u) == 1u) {
                var value = 0u;
                if (bits > 0u) {
                    let shift = at % 32u;
                    value = packed[at / 32u] >> shift;
                    if (shift + bits > 32u) {
                        value |= packed[at / 32u + 1u] << (32u - shift);
                    }
                    value &= (1u << bits) - 1u;
                    at += bits;
                }
                var symbol = value + 1u;
                if (signed_symbols) {
                    // 1, 2, 3, 4 are 1, -1, 2, -2.
                    let magnitude = (symbol + 1u) / 2u;
                    symbol = select(magnitude, 0u - magnitude, symbol % 2u == 0u);
                }
                word |= (symbol & 0xffffu) << (16u * half);
            }
        }
        symbols[block * 16u + i] = word;
    }
}
