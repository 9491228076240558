// Floats to half precision, two to a word, the first in the lower half. One invocation per output word.
// In integers throughout: what a device does with subnormals, infinities and not-a-number in float arithmetic is its own
// affair. Reference: bps_codec::f16.

@group(0) @binding(0) var<storage, read_write> values: array<u32>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
// x: elements, y: words, z, w: 0
@group(0) @binding(2) var<uniform> info: vec4<u32>;

// Adds one if the dropped bits below `last` are more than half of it, or half and `last` is odd.
fn rounded(kept: u32, mantissa: u32, half: u32) -> u32 {
    let up = (mantissa & half) != 0u && (mantissa & (3u * half - 1u)) != 0u;
    return kept + select(0u, 1u, up);
}

fn encode(bits: u32) -> u32 {
    let sign = (bits >> 16u) & 0x8000u;
    let exponent = (bits >> 23u) & 0xffu;
    let mantissa = bits & 0x7fffffu;
    if (exponent == 255u) {
        // Infinite, or not a number: that one quiet, with the top of its payload.
        return sign | 0x7c00u | select(0x200u, 0u, mantissa == 0u) | (mantissa >> 13u);
    }
    if (exponent >= 143u) {
        // 2^16 and more.
        return sign | 0x7c00u;
    }
    if (exponent >= 113u) {
        // Normal. A carry out of the mantissa goes where it belongs, up to infinity.
        return rounded(sign | ((exponent - 112u) << 10u) | (mantissa >> 13u), mantissa, 0x1000u);
    }
    if (exponent < 102u) {
        // Less than half the least subnormal.
        return sign;
    }
    // Subnormal: shifted by 14 to 24.
    let whole = mantissa | 0x800000u;
    let shift = 126u - exponent;
    return rounded(sign | (whole >> shift), whole, 1u << (shift - 1u));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let w = id.x + id.y * groups.x * 256u;
    if (w >= info.y) {
        return;
    }
    var word = encode(values[2u * w]);
    if (2u * w + 1u < info.x) {
        word |= encode(values[2u * w + 1u]) << 16u;
    }
    words[w] = word;
}
