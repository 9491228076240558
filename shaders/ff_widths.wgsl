// How much room blocks of symbols take: widths, and of each group of blocks the bitmaps and bits in front of every block.
// One invocation per block, one workgroup per group. The first level of the scan of sizes.
// Reference: bps_codec::ff::pack.

@group(0) @binding(0) var<storage, read_write> symbols: array<u32>;
// As ff_quantise leaves it.
@group(0) @binding(1) var<storage, read_write> summary: array<u32>;
// Begins with the widths, four bits a block.
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;
// A word a block: bitmaps (times 2^20) and bits of values that its group has before it.
@group(0) @binding(3) var<storage, read_write> before: array<u32>;
// Two words a group: its bitmaps, its bits.
@group(0) @binding(4) var<storage, read_write> totals: array<u32>;
@group(0) @binding(5) var<uniform> plan: Plan;

var<workgroup> widths: array<u32, 256>;
var<workgroup> sizes: array<u32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = group_of(group_id.x + group_id.y * groups.x);
    var width = 0u;
    var size = 0u;
    if (local < group.blocks) {
        let signed_symbols = group.sequence == 1u || summary[4u + 16u * group.chunk] != 0u;
        var all = 0u;
        var count = 0u;
        for (var i = 0u; i < 32u; i++) {
            let word = symbols[(group.first + local) * 16u + i / 2u];
            let symbol = bitcast<i32>(word << (16u - 16u * (i % 2u))) >> 16u;
            if (symbol != 0) {
                let magnitude = u32(abs(symbol));
                // One less than 1, 2, 3, ..., or than 1, 3, 5, ... and 2, 4, 6, ... for those below zero.
                all |= select(magnitude, 2u * magnitude - select(0u, 1u, symbol > 0), signed_symbols) - 1u;
                count += 1u;
            }
        }
        if (count > 0u) {
            let bits = 32u - countLeadingZeros(all);
            width = bits + 1u;
            // At most 448 bits a block: those of a group stay below 2^20.
            size = (1u << 20u) + bits * count;
        }
    }
    widths[local] = width;
    sizes[local] = size;
    workgroupBarrier();
    for (var reach = 1u; reach < 256u; reach *= 2u) {
        var left = 0u;
        if (local >= reach) {
            left = sizes[local - reach];
        }
        workgroupBarrier();
        sizes[local] += left;
        workgroupBarrier();
    }
    if (local < group.blocks) {
        before[group.first + local] = sizes[local] - size;
    }
    // Groups have a multiple of 8 blocks and begin at one.
    if (local < 32u && local * 8u < group.blocks) {
        var word = 0u;
        for (var i = 0u; i < 8u; i++) {
            word |= widths[local * 8u + i] << (4u * i);
        }
        packed[group.first / 8u + local] = word;
    }
    if (local == 255u && group.blocks > 0u) {
        totals[2u * group.index] = sizes[255] >> 20u;
        totals[2u * group.index + 1u] = sizes[255] & 0xfffffu;
    }
}
