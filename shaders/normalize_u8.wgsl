// Image bytes (NHWC) to network input (NCHW): (x - mean[channel]) * scale[channel].
// One invocation per output element. Reference: bps_codec::normalize_u8.

// Bytes, four to a word, the first in the lowest bits.
@group(0) @binding(0) var<storage, read_write> pixels: array<u32>;
// mean[0 .. channels], then scale[0 .. channels].
@group(0) @binding(1) var<storage, read_write> factors: array<f32>;
@group(0) @binding(2) var<storage, read_write> planes: array<f32>;
// x: elements, y: elements of a plane (height * width), z: channels, w: 0
@group(0) @binding(3) var<uniform> info: vec4<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
    if (i >= info.x || info.y == 0u || info.z == 0u) {
        return;
    }
    let pixel = i % info.y;
    let plane = i / info.y;
    let channel = plane % info.z;
    let row = plane / info.z;
    let source = (row * info.y + pixel) * info.z + channel;
    let byte = (pixels[source / 4u] >> (8u * (source % 4u))) & 0xffu;
    planes[i] = (f32(byte) - factors[channel]) * factors[info.z + channel];
}
