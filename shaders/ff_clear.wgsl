// Zeros in every word of values that blocks share, or that a sequence does not fill: ff_pack adds its bits there. One
// invocation per block, one workgroup per group.

// As ff_widths and ff_scan leave them.
@group(0) @binding(0) var<storage, read_write> before: array<u32>;
@group(0) @binding(1) var<storage, read_write> totals: array<u32>;
@group(0) @binding(2) var<storage, read_write> summary: array<u32>;
@group(0) @binding(3) var<storage, read_write> packed: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> plan: Plan;

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
    let values_at = plan.width_words + summary[1];
    let head = sequence_head(group.chunk, group.sequence);
    let sequence_bit = 32u * summary[head + 2u];
    let group_bits = totals[2u * group.index + 1u] - totals[2u * group.sequence_start + 1u];
    let start = sequence_bit + group_bits + (before[group.first + local] & 0xfffffu);
    atomicStore(&packed[values_at + start / 32u], 0u);
    if (local == 0u) {
        // There is room for one word behind the last.
        atomicStore(&packed[values_at + (sequence_bit + summary[head + 3u]) / 32u], 0u);
    }
}
