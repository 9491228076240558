// Least and greatest finite element of each row, as keys that order like the numbers: the first step of int8 packing.
// A row has workgroups of its own. Each invocation takes every stride-th element, each workgroup one atomic pair.
// Reference: bps_codec::int8::Affine::fit.

@group(0) @binding(0) var<storage, read_write> values: array<u32>;
// Two words a row: the first starts as 0xffffffff and becomes the least key, the second starts as 0 and becomes the
// greatest.
@group(0) @binding(1) var<storage, read_write> range: array<atomic<u32>>;
// x: elements of a row, y: invocations a row (a multiple of 256), z: rows, w: 0
@group(0) @binding(2) var<uniform> info: vec4<u32>;

var<workgroup> least: array<u32, 256>;
var<workgroup> greatest: array<u32, 256>;

// Monotone from the bits of a float: negative numbers reversed, positive ones above them.
fn key(bits: u32) -> u32 {
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.x + group.y * groups.x;
    let row_groups = max(info.y / 256u, 1u);
    let row = index / row_groups;
    // The grid overshoots: workgroups behind the last row have nothing to read.
    let count = select(0u, info.x, row < info.z);
    var lo = 0xffffffffu;
    var hi = 0u;
    var i = (index % row_groups) * 256u + local;
    while (i < count) {
        let bits = values[row * info.x + i];
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
    if (local == 0u && row < info.z) {
        atomicMin(&range[2u * row], least[0]);
        atomicMax(&range[2u * row + 1u], greatest[0]);
    }
}
