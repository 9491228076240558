// Bytes, every row behind a header of scale and zero, back to floats. One invocation per element.
// Reference and layout: bps_codec::int8.

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
// Floats, as bits: not-a-number must arrive whatever the compiler assumes about arithmetic.
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
// x: elements of a row, y: words of a row, z: rows, w: 0
@group(0) @binding(2) var<uniform> info: vec4<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = id.x + id.y * groups.x * 256u;
    if (at >= info.x * info.z) {
        return;
    }
    let header = at / info.x * info.y;
    let i = at % info.x;
    let code = (words[header + 2u + i / 4u] >> (8u * (i % 4u))) & 0xffu;
    let scale = bitcast<f32>(words[header]);
    let zero = bitcast<f32>(words[header + 1u]);
    let half = clamp(zero * 0.5 + f32(code) * (scale * 0.5), -1.7014117e38, 1.7014117e38);
    values[at] = select(bitcast<u32>(half * 2.0), 0x7fc00000u, code == 255u);
}
