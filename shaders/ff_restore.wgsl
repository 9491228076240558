// Exceptions back to their places. One invocation per exception.
// Reference: bps_codec::ff::exceptions.

// Two words an exception: its place among all elements of the result, and its bits.
@group(0) @binding(0) var<storage, read_write> exceptions: array<u32>;
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
@group(0) @binding(2) var<uniform> plan: Plan;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
    if (i >= plan.exceptions) {
        return;
    }
    values[exceptions[2u * i]] = exceptions[2u * i + 1u];
}
