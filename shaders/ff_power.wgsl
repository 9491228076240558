// Sums of the squares of a row's finite elements, for its root mean square: the first step where a frame states its
// steps. A row has workgroups of its own; each leaves four words: sums of small, middling and large elements, which are
// scaled so that no square is too small or too large, and their count. The order of addition is fixed.
// Reference: bps_codec::ff::FrameWriter::steps.

// Floats, as bits.
@group(0) @binding(0) var<storage, read_write> values: array<u32>;
@group(0) @binding(1) var<storage, read_write> shares: array<u32>;
@group(0) @binding(2) var<uniform> plan: Plan;

// 2^-40 and 2^40, as bits.
const SMALL: u32 = 0x2b800000u;
const LARGE: u32 = 0x53800000u;
// 2^80 and its reciprocal.
const UP: f32 = 1.2089258e24;
const DOWN: f32 = 8.271806e-25;

var<workgroup> sums: array<vec3<f32>, 256>;
var<workgroup> counts: array<u32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.x + group.y * groups.x;
    let row_groups = max(plan.power_groups, 1u);
    let row = index / row_groups;
    let plane = max(plan.height * plan.width, 1u);
    // The grid overshoots: workgroups behind the last row have nothing to read.
    let count = select(0u, plan.channels * plane, row < plan.rows);
    var sum = vec3<f32>(0.0, 0.0, 0.0);
    var finite = 0u;
    var i = (index % row_groups) * 256u + local;
    while (i < count) {
        // In the order of memory.
        var channel = i / plane;
        var place = i % plane;
        if (plan.channels_inside == 1u) {
            channel = i % max(plan.channels, 1u);
            place = i / max(plan.channels, 1u);
        }
        let line = place / max(plan.width, 1u);
        let column = place % max(plan.width, 1u);
        let bits = values[row * plan.row_stride + channel * plan.channel_stride + line * plan.line_stride
            + column * plan.column_stride] & 0x7fffffffu;
        // All exponent bits set: infinite or not a number.
        if (bits < 0x7f800000u) {
            finite += 1u;
            let value = bitcast<f32>(bits);
            if (bits < SMALL) {
                sum.x += (value * UP) * (value * UP);
            } else if (bits < LARGE) {
                sum.y += value * value;
            } else {
                sum.z += (value * DOWN) * (value * DOWN);
            }
        }
        i += row_groups * 256u;
    }
    sums[local] = sum;
    counts[local] = finite;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (local < half) {
            sums[local] += sums[local + half];
            counts[local] += counts[local + half];
        }
        workgroupBarrier();
    }
    if (local == 0u && row < plan.rows) {
        shares[4u * index] = bitcast<u32>(sums[0].x);
        shares[4u * index + 1u] = bitcast<u32>(sums[0].y);
        shares[4u * index + 2u] = bitcast<u32>(sums[0].z);
        shares[4u * index + 3u] = counts[0];
    }
}
