//! The orthonormal 2x2 Haar transform of planes of any size; a missing last line or column repeats the one before.
//!
//! ```text
//! a b     LL = (a+b+c+d)/2    LH = (a-b+c-d)/2
//! c d     HL = (a+b-c-d)/2    HH = (a-b-c+d)/2
//! ```
//!
//! The inverse has the same form. A value is added at most thrice and halved once a level, so results are the same on
//! every machine that rounds as IEEE 754 says.

/// Splits two lines into one line of each band.
fn split_lines(top: &[f32], bottom: &[f32], bands: [&mut [f32]; 4]) {
    let [ll, lh, hl, hh] = bands;
    let (top, top_last) = top.as_chunks::<2>();
    let (bottom, bottom_last) = bottom.as_chunks::<2>();
    let n = top.len();
    let out = ll[..n].iter_mut().zip(&mut lh[..n]).zip(&mut hl[..n]).zip(&mut hh[..n]);
    for ((((ll, lh), hl), hh), ([a, b], [c, d])) in out.zip(top.iter().zip(bottom)) {
        (*ll, *lh, *hl, *hh) = butterfly(*a, *b, *c, *d);
    }
    if let ([a], [c]) = (top_last, bottom_last) {
        (ll[n], lh[n], hl[n], hh[n]) = butterfly(*a, *a, *c, *c);
    }
}

/// Both directions at once: the transform is its own inverse.
#[inline(always)]
fn butterfly(a: f32, b: f32, c: f32, d: f32) -> (f32, f32, f32, f32) {
    let (top_sum, top_difference, bottom_sum, bottom_difference) = (a + b, a - b, c + d, c - d);
    (
        (top_sum + bottom_sum) * 0.5,
        (top_difference + bottom_difference) * 0.5,
        (top_sum - bottom_sum) * 0.5,
        (top_difference - bottom_difference) * 0.5,
    )
}

/// Transforms a plane of this width; each band comes out as one plane, one after another in `bands`.
pub(super) fn forward(plane: &[f32], width: usize, bands: &mut [f32]) {
    let [half_width, quarter] = halves(plane.len(), width);
    if quarter == 0 {
        return;
    }
    let (ll, rest) = bands[..4 * quarter].split_at_mut(quarter);
    let (lh, rest) = rest.split_at_mut(quarter);
    let (hl, hh) = rest.split_at_mut(quarter);
    let out = ll.chunks_exact_mut(half_width).zip(lh.chunks_exact_mut(half_width));
    let out = out.zip(hl.chunks_exact_mut(half_width).zip(hh.chunks_exact_mut(half_width)));
    for (((ll, lh), (hl, hh)), pair) in out.zip(plane.chunks(2 * width)) {
        let (top, bottom) = pair.split_at(width);
        split_lines(top, if bottom.is_empty() { top } else { bottom }, [ll, lh, hl, hh]);
    }
}

/// Undoes [`forward`]: `bands` holds the four bands, `plane` is overwritten.
pub(super) fn inverse(bands: &[f32], width: usize, plane: &mut [f32]) {
    let [half_width, quarter] = halves(plane.len(), width);
    if quarter == 0 {
        return;
    }
    let (ll, rest) = bands[..4 * quarter].split_at(quarter);
    let (lh, rest) = rest.split_at(quarter);
    let (hl, hh) = rest.split_at(quarter);
    let lines = ll.chunks_exact(half_width).zip(lh.chunks_exact(half_width));
    let lines = lines.zip(hl.chunks_exact(half_width).zip(hh.chunks_exact(half_width)));
    for (((ll, lh), (hl, hh)), pair) in lines.zip(plane.chunks_mut(2 * width)) {
        let (top, bottom) = pair.split_at_mut(width);
        if bottom.is_empty() {
            join_top(top, [ll, lh, hl, hh]);
        } else {
            join_lines(top, bottom, [ll, lh, hl, hh]);
        }
    }
}

fn join_lines(top: &mut [f32], bottom: &mut [f32], bands: [&[f32]; 4]) {
    let [ll, lh, hl, hh] = bands;
    let (top, top_last) = top.as_chunks_mut::<2>();
    let (bottom, bottom_last) = bottom.as_chunks_mut::<2>();
    let n = top.len();
    let values = ll[..n].iter().zip(&lh[..n]).zip(hl[..n].iter().zip(&hh[..n]));
    for ((top, bottom), ((ll, lh), (hl, hh))) in top.iter_mut().zip(bottom).zip(values) {
        let (a, b, c, d) = butterfly(*ll, *lh, *hl, *hh);
        *top = [a, b];
        *bottom = [c, d];
    }
    if let ([a], [c]) = (top_last, bottom_last) {
        (*a, _, *c, _) = butterfly(ll[n], lh[n], hl[n], hh[n]);
    }
}

fn join_top(top: &mut [f32], bands: [&[f32]; 4]) {
    let [ll, lh, hl, hh] = bands;
    for (x, pair) in top.chunks_mut(2).enumerate() {
        let (a, b, _, _) = butterfly(ll[x], lh[x], hl[x], hh[x]);
        pair[0] = a;
        if let [_, second] = pair {
            *second = b;
        }
    }
}

/// Width and size of one band.
fn halves(plane: usize, width: usize) -> [usize; 2] {
    let half_width = width.div_ceil(2);
    [half_width, half_width * plane.checked_div(width).unwrap_or(0).div_ceil(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_transformed_as_written() {
        let mut bands = [0.0; 4];
        forward(&[9.0, 1.0, 4.0, 2.0], 2, &mut bands);
        assert_eq!(bands, [8.0, 5.0, 2.0, 3.0]);
    }

    #[test]
    fn every_size_comes_back() {
        for (height, width) in
            [(1usize, 1usize), (1, 2), (2, 1), (1, 7), (7, 1), (2, 2), (3, 5), (8, 8), (13, 34), (56, 57)]
        {
            // Small integers: sums and halves of them are exact.
            let plane: Vec<f32> = (0..height * width).map(|i| ((i * 7_919) % 257) as f32).collect();
            let mut bands = vec![f32::NAN; 4 * height.div_ceil(2) * width.div_ceil(2)];
            forward(&plane, width, &mut bands);
            let mut back = vec![f32::NAN; plane.len()];
            inverse(&bands, width, &mut back);
            assert_eq!(plane, back, "{height}x{width}");
        }
    }

    #[test]
    fn behind_a_relu_no_detail_exceeds_its_mean() {
        let plane: Vec<f32> = (0..64).map(|i| ((i * 37 % 19) as f32 - 9.0).max(0.0)).collect();
        let mut bands = [0.0; 64];
        forward(&plane, 8, &mut bands);
        let (ll, details) = bands.split_at(16);
        assert!(details.iter().enumerate().all(|(i, d)| d.abs() <= ll[i % 16]));
    }
}
