// The step of each row from the sums of its squares. One workgroup per row. Its reciprocal is the nearest float, made in
// integers: the division of a device need not be exact, and symbols are to be those of the processor in the same steps.
// Reference: bps_codec::ff::FrameWriter::steps.

// As ff_power leaves them.
@group(0) @binding(0) var<storage, read_write> shares: array<u32>;
// Two words a row: the reciprocal of the step, and the greatest magnitude of an element.
@group(0) @binding(1) var<storage, read_write> table: array<u32>;
@group(0) @binding(2) var<uniform> plan: Plan;

// 2^80 and its reciprocal.
const UP: f32 = 1.2089258e24;
const DOWN: f32 = 8.271806e-25;

var<workgroup> sums: array<vec3<f32>, 256>;
var<workgroup> counts: array<u32, 256>;

// 1 / x, nearest, for normal numbers whose reciprocals are.
fn reciprocal(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let exponent = bits >> 23u;
    let mantissa = bits & 0x7fffffu;
    if (mantissa == 0u) {
        return (254u - exponent) << 23u;
    }
    // 2^47 / divisor, which has 24 bits, by long division. There are no ties: the divisor is no power of two.
    let divisor = mantissa | 0x800000u;
    var rest = 0x800000u;
    var quotient = 0u;
    for (var bit = 0u; bit < 24u; bit++) {
        rest *= 2u;
        quotient *= 2u;
        if (rest >= divisor) {
            rest -= divisor;
            quotient += 1u;
        }
    }
    if (2u * rest >= divisor) {
        quotient += 1u;
    }
    return ((253u - exponent) << 23u) | (quotient & 0x7fffffu);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.x + group.y * groups.x;
    var sum = vec3<f32>(0.0, 0.0, 0.0);
    var count = 0u;
    if (row < plan.rows && local < plan.power_groups) {
        let at = 4u * (row * plan.power_groups + local);
        sum = vec3<f32>(bitcast<f32>(shares[at]), bitcast<f32>(shares[at + 1u]), bitcast<f32>(shares[at + 2u]));
        count = shares[at + 3u];
    }
    sums[local] = sum;
    counts[local] = count;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if (local < half) {
            sums[local] += sums[local + half];
            counts[local] += counts[local + half];
        }
        workgroupBarrier();
    }
    if (local != 0u || row >= plan.rows) {
        return;
    }
    let total = sums[0];
    let finite = f32(max(counts[0], 1u));
    var step = 0.0;
    if (total.z > 0.0) {
        // In units of 2^80: the greatest step, 2^110, is 2^30 of them.
        let units = plan.step_factor * sqrt((total.z + total.y * DOWN * DOWN) / finite);
        step = min(units, 1073741824.0) * UP;
    } else if (total.y > 0.0) {
        step = plan.step_factor * sqrt((total.y + total.x * DOWN * DOWN) / finite);
    } else {
        step = plan.step_factor * sqrt(total.x / finite) * DOWN;
    }
    step = clamp(step, plan.step_least, plan.step_greatest);
    table[2u * row] = reciprocal(step);
    table[2u * row + 1u] = bitcast<u32>(step * plan.steps_max);
}
