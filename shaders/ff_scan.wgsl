// Where the bitmaps and values of groups and sequences begin: the second level of the scan of sizes. One workgroup walks
// over all groups, 256 at a time, so that nothing waits for another workgroup; then over all sequences, whose values begin
// with a word each. Reference: bps_codec::ff::pack.

// As ff_widths leaves them: bitmaps and bits of values of each group. Becomes those of all groups before.
@group(0) @binding(0) var<storage, read_write> totals: array<u32>;
// Its words 1 and 2 become the number of bitmaps and of words of values. Behind the chunks four words a sequence: bitmaps
// before it, its bitmaps, words of values before it, its bits of values.
@group(0) @binding(1) var<storage, read_write> summary: array<u32>;
@group(0) @binding(2) var<uniform> plan: Plan;

var<workgroup> sums: array<vec2<u32>, 256>;

// Adds up what the invocations before this one have. The sum of all is the last of `sums` until the next call.
fn sum_before(own: vec2<u32>, local: u32) -> vec2<u32> {
    // All have read what the call before left.
    workgroupBarrier();
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
    return sums[local] - own;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    // One workgroup is enough, whatever the grid.
    let groups = select(0u, chunk_count() * plan.chunk_groups, group.x + group.y == 0u);
    var all = vec2<u32>(0u, 0u);
    for (var tile = 0u; tile < groups; tile += 256u) {
        let index = tile + local;
        var own = vec2<u32>(0u, 0u);
        if (index < groups) {
            own = vec2<u32>(totals[2u * index], totals[2u * index + 1u]);
        }
        let before = all + sum_before(own, local);
        all += sums[255];
        if (index < groups) {
            totals[2u * index] = before.x;
            totals[2u * index + 1u] = before.y;
        }
    }
    storageBarrier();
    let per_chunk = select(1u, 2u, plan.levels > 0u);
    let sequences = select(0u, chunk_count() * per_chunk, groups > 0u);
    var words = 0u;
    for (var tile = 0u; tile < sequences; tile += 256u) {
        let sequence = tile + local;
        let first = sequence / per_chunk * plan.chunk_groups + sequence % per_chunk * plan.coarse_groups;
        let next = (sequence + 1u) / per_chunk * plan.chunk_groups + (sequence + 1u) % per_chunk * plan.coarse_groups;
        var start = vec2<u32>(0u, 0u);
        var end = vec2<u32>(0u, 0u);
        if (sequence < sequences) {
            start = vec2<u32>(totals[2u * first], totals[2u * first + 1u]);
            end = all;
            if (next < groups) {
                end = vec2<u32>(totals[2u * next], totals[2u * next + 1u]);
            }
        }
        let bits = end.y - start.y;
        let before = words + sum_before(vec2<u32>((bits + 31u) / 32u, 0u), local).x;
        words += sums[255].x;
        if (sequence < sequences) {
            let head = sequence_head(sequence / per_chunk, sequence % per_chunk);
            summary[head] = start.x;
            summary[head + 1u] = end.x - start.x;
            summary[head + 2u] = before;
            summary[head + 3u] = bits;
        }
    }
    if (local == 0u && groups > 0u) {
        summary[1] = all.x;
        summary[2] = words;
    }
}
