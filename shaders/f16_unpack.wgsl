// Half precision, two to a word, back to floats. One invocation per element. In integers, as f16_pack.
// Reference: bps_codec::f16.

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
// Floats, as bits.
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
// x: elements, y, z, w: 0
@group(0) @binding(2) var<uniform> info: vec4<u32>;

fn decode(half: u32) -> u32 {
    let sign = (half & 0x8000u) << 16u;
    let exponent = (half >> 10u) & 0x1fu;
    let mantissa = half & 0x3ffu;
    if (exponent == 31u) {
        return sign | 0x7f800000u | select(0x400000u, 0u, mantissa == 0u) | (mantissa << 13u);
    }
    if (exponent > 0u) {
        return sign | ((exponent + 112u) << 23u) | (mantissa << 13u);
    }
    if (mantissa == 0u) {
        return sign;
    }
    // Subnormal: its highest bit becomes the one that is not written.
    let top = firstLeadingBit(mantissa);
    return sign | ((top + 103u) << 23u) | ((mantissa << (23u - top)) & 0x7fffffu);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
    if (i >= info.x) {
        return;
    }
    values[i] = decode((words[i / 2u] >> (16u * (i % 2u))) & 0xffffu);
}
