// Floats to one byte each, every row behind a header of scale and zero. One invocation per output word.
// Reference and layout: bps_codec::int8.

@group(0) @binding(0) var<storage, read_write> values: array<u32>;
// Least and greatest key of each row, as int8_range leaves them.
@group(0) @binding(1) var<storage, read_write> range: array<u32>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;
// x: elements of a row, y: words of a row, z: rows, w: 0
@group(0) @binding(3) var<uniform> info: vec4<u32>;

// Inverse of the key in int8_range.
fn number(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

fn encode(bits: u32, scale: f32, zero: f32) -> u32 {
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 255u;
    }
    if (scale == 0.0) {
        return 0u;
    }
    // Infinities first: arithmetic on them is not portable.
    if (bits == 0x7f800000u) {
        return 254u;
    }
    if (bits == 0xff800000u) {
        return 0u;
    }
    let steps = (bitcast<f32>(bits) * 0.5 - zero * 0.5) * (2.0 / scale);
    return u32(clamp(floor(steps + 0.5), 0.0, 254.0));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = id.x + id.y * groups.x * 256u;
    if (at >= info.y * info.z) {
        return;
    }
    let row = at / info.y;
    let w = at % info.y;
    let least = range[2u * row];
    let greatest = range[2u * row + 1u];
    var scale = 0.0;
    var zero = 0.0;
    // Keys in the wrong order: there was no finite element.
    if (least <= greatest) {
        zero = number(least);
        scale = (number(greatest) * 0.5 - zero * 0.5) / 127.0;
        // Subnormal scales are unusable: a device may flush them to zero, and their inverse overflows.
        if (scale < 1.17549435e-38) {
            scale = 0.0;
        }
    }
    if (w < 2u) {
        words[at] = bitcast<u32>(select(scale, zero, w == 1u));
        return;
    }
    var word = 0u;
    for (var k = 0u; k < 4u; k++) {
        let i = (w - 2u) * 4u + k;
        if (i < info.x) {
            word |= encode(values[row * info.x + i], scale, zero) << (8u * k);
        }
    }
    words[at] = word;
}
