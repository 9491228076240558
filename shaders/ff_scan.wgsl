// Where the bitmaps and the bits of each group begin: the second level of the scan of sizes. One workgroup walks over all
// sequences, 256 at a time, so that nothing waits for another workgroup. Values of a sequence begin with a word.
// Reference: bps_codec::ff::pack.

// As ff_widths leaves them; becomes the bitmaps, and the bits of values, in front of each group.
@group(0) @binding(0) var<storage, read_write> totals: array<u32>;
// Its words 1 and 2 become the number of bitmaps and of words of values. Behind the chunks four words a sequence: bitmaps
// before it, its bitmaps, words of values before it, its bits of values.
@group(0) @binding(1) var<storage, read_write> summary: array<u32>;
@group(0) @binding(2) var<uniform> plan: Plan;

var<workgroup> sums: array<vec2<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let per_chunk = select(1u, 2u, plan.levels > 0u);
    let sequences = select(0u, chunk_count() * per_chunk, group.x + group.y == 0u);
    var carry = vec2<u32>(0u, 0u);
    for (var tile = 0u; tile < sequences; tile += 256u) {
        let sequence = tile + local;
        let chunk = sequence / per_chunk;
        let second = sequence % per_chunk;
        let first = chunk * plan.chunk_groups + second * plan.coarse_groups;
        var count = select(plan.coarse_groups, plan.chunk_groups - plan.coarse_groups, second == 1u);
        if (sequence >= sequences) {
            count = 0u;
        }
        var bitmaps = 0u;
        var bits = 0u;
        for (var i = 0u; i < count; i++) {
            bitmaps += totals[2u * (first + i)];
            bits += totals[2u * (first + i) + 1u];
        }
        let own = vec2<u32>(bitmaps, (bits + 31u) / 32u);
        sums[local] = own;
        workgroupBarrier();
        for (var reach = 1u; reach < 256u; reach *= 2u) {
            var left = vec2<u32>(0u, 0u);
            if (local >= reach) {
                left = sums[local - reach];
            }
            workgroupBarrier();
            sums[local] += left;
            workgroupBarrier();
        }
        let start = carry + sums[local] - own;
        carry += sums[255];
        if (sequence < sequences) {
            let head = 4u + 16u * chunk_count() + 4u * sequence;
            summary[head] = start.x;
            summary[head + 1u] = bitmaps;
            summary[head + 2u] = start.y;
            summary[head + 3u] = bits;
            var bitmap = start.x;
            var bit = 32u * start.y;
            for (var i = 0u; i < count; i++) {
                let at = 2u * (first + i);
                let next_bitmap = bitmap + totals[at];
                let next_bit = bit + totals[at + 1u];
                totals[at] = bitmap;
                totals[at + 1u] = bit;
                bitmap = next_bitmap;
                bit = next_bit;
            }
        }
        // All have read the sums before the next ones are written.
        workgroupBarrier();
    }
    if (local == 0u && sequences > 0u) {
        summary[1] = carry.x;
        summary[2] = carry.y;
    }
}
