// Least and greatest finite element, as keys that order like the numbers: the first step of int8 packing.
// Each invocation takes every stride-th element, each workgroup one atomic pair. Reference: bps_codec::int8::Affine::fit.

@group(0) @binding(0) var<storage, read_write> values: array<u32>;
// [0] starts as 0xffffffff and becomes the least key, [1] starts as 0 and becomes the greatest.
@group(0) @binding(1) var<storage, read_write> range: array<atomic<u32>>;
// x: elements, y: invocations in all, z, w: 0
@group(0) @binding(2) var<uniform> info: vec4<u32>;

var<workgroup> least: array<u32, 256>;
var<workgroup> greatest: array<u32, 256>;

// Monotone from the bits of a float: negative numbers reversed, positive ones above them.
fn key(bits: u32) -> u32 {
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(256)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var lo = 0xffffffffu;
    var hi = 0u;
    var i = id.x + id.y * groups.x * 256u;
    while (i < info.x) {
        let bits = values[i];
        // All exponent bits set: infinite or not a number.
        if ((bits & 0x7f800000u) != 0x7f800000u) {
            lo = min(lo, key(bits));
            hi = max(hi, key(bits));
        }
        i += max(info.y, 1u);
    }
    least[local] = lo;
    greatest[local] = hi;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (local < half) {
            least[local] = min(least[local], least[local + half]);
            greatest[local] = max(greatest[local], greatest[local + half]);
        }
        workgroupBarrier();
    }
    if (local == 0u) {
        atomicMin(&range[0], least[0]);
        atomicMax(&range[1], greatest[0]);
    }
}
