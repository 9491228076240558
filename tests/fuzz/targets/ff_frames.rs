//! FF frames from a peer, read in both orders of memory, with the data-free package and with a calibrated one. Checksum,
//! sizes and shape are put right, so that the coders behind them are reached.

#![no_main]

use bps_codec::ff::{
    Calibration, CutPackage, Entropy, FfError, Mode, Order, Settings, Weights, calibrate, decode, encode, package_of,
};
use bps_fuzz::{Input, seed, within};
use bps_types::HostTensor;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

#[path = "../../../host/codec/src/ff/tests/maps.rs"]
#[expect(dead_code, reason = "only the maps are used")]
mod maps;

/// Leaves the frame as it is.
const AS_IT_IS: u8 = 1;
/// Reads with the calibrated package.
const CALIBRATED: u8 = 2;
/// Fewer extents than four.
const FLAT: u8 = 4;

const HEADER_BYTES: usize = 40;
/// What the calibrated package is for.
const ROW: [usize; 3] = [6, 7, 9];

fuzz_target!(init: seed(seeds(), &["FFv1"]), |data: &[u8]| {
    let mut input = Input::new(data);
    let flags = input.byte();
    let extents: [usize; 4] = std::array::from_fn(|_| usize::from(input.byte()));
    if extents.iter().product::<usize>() > 1 << 17 {
        return;
    }
    let package = (flags & CALIBRATED != 0).then(calibrated);
    let mut frame = input.rest().to_vec();
    if flags & AS_IT_IS == 0 {
        mend(&mut frame, extents, package);
    }
    // The same tensor in both orders.
    let [n, c, h, w] = extents;
    let (nchw, nhwc) = match flags & FLAT {
        0 => (vec![n, c, h, w], vec![n, h, w, c]),
        _ if h == 1 && w == 1 => (vec![n, c], vec![n, c]),
        _ => (vec![n, c, w], vec![n, w, c]),
    };
    let elements: usize = nchw.iter().product();
    // Values, symbols, classes and contexts of a chunk, and room for those of other threads.
    let decode = |shape: &[usize], order| {
        within((1 << 20) + 64 * elements + 8 * frame.len(), || decode(&frame, shape, order, package))
    };
    match (decode(&nchw, Order::Nchw), decode(&nhwc, Order::Nhwc)) {
        (Ok(planes), Ok(points)) => {
            assert_eq!((planes.shape(), points.shape()), (&nchw[..], &nhwc[..]));
            assert_eq!(package_of(&frame), Ok(package.map_or(0x190f_ffc6_894d_4427, CutPackage::id)));
            let plane = nchw[2..].iter().product::<usize>();
            let (planes, points) = (planes.data().as_chunks::<4>().0, points.data().as_chunks::<4>().0);
            for (index, value) in planes.iter().enumerate() {
                let (row, channel, place) = (index / (c * plane), index / plane % c, index % plane);
                assert_eq!(*value, points[row * c * plane + place * c + channel], "element {index} in both orders");
            }
        }
        (Err(planes), Err(points)) => {
            assert_eq!(planes, points, "in both orders");
            assert!(!planes.to_string().is_empty());
            if let FfError::Frame { offset, .. } = planes {
                assert!(offset <= frame.len());
            }
        }
        (planes, points) => panic!("{planes:?}, but {points:?}"),
    }
});

/// Makes the frame one of these extents: its head, the sizes of its chunks and its checksum.
fn mend(frame: &mut Vec<u8>, [n, c, h, w]: [usize; 4], package: Option<&CutPackage>) {
    let chunk_channels = ((1 << 16) / (h * w).max(1) / 4 * 4).max(4);
    let chunks = if n * c * h * w == 0 { 0 } else { n * c.div_ceil(chunk_channels) };
    let payload_at = HEADER_BYTES + 4 * chunks;
    frame.resize(frame.len().max(payload_at + 4), 0);
    let end = frame.len() - 4;
    let (body, checksum) = frame.split_at_mut(end);
    let mut left = body.len() - payload_at;
    body[..4].copy_from_slice(b"FFv1");
    body[4] = 2 + body[4] % 3;
    body[5] %= 3;
    body[6] %= 32;
    body[7] &= 0b0111;
    let id = package.map_or(0x190f_ffc6_894d_4427, CutPackage::id);
    body[8..16].copy_from_slice(&id.to_le_bytes());
    body[16..28].fill(0);
    for (place, extent) in [n, c, h, w].into_iter().enumerate() {
        body[28 + 2 * place..][..2].copy_from_slice(&(extent as u16).to_le_bytes());
    }
    body[36..40].copy_from_slice(&(left as u32).to_le_bytes());
    // Each as long as it says, the last one as long as it can be.
    for chunk in 0..chunks {
        let size = &mut body[HEADER_BYTES + 4 * chunk..][..4];
        let said = u32::from_le_bytes(std::array::from_fn(|i| size[i])) as usize;
        let kept = if chunk + 1 == chunks { left } else { said.min(left) };
        size.copy_from_slice(&(kept as u32).to_le_bytes());
        left -= kept;
    }
    checksum.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

fn map(seed: u64, shape: [usize; 4]) -> HostTensor {
    HostTensor::from_f32(shape.to_vec(), &maps::spots(seed, shape)).expect("as long as it says")
}

fn calibrated() -> &'static CutPackage {
    static SLOT: OnceLock<CutPackage> = OnceLock::new();
    SLOT.get_or_init(|| {
        let samples: Vec<_> = (0..2).map(|seed| map(100 + seed, [1, ROW[0], ROW[1], ROW[2]])).collect();
        calibrate(&Calibration {
            name: "block1",
            model: [7; 32],
            samples: &samples,
            order: Order::Nchw,
            modes: &Mode::ALL,
            rates: &[8, 16],
            weights: &Weights::default(),
            directions: None,
        })
        .expect("samples fit together")
    })
}

/// Every mode and stage: data-free, bounded, with channels inside, of one element a channel, of several chunks, and with
/// the calibrated package.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let [c, h, w] = ROW;
    for mode in Mode::ALL {
        for entropy in Entropy::ALL {
            let free = Settings { entropy, ..Settings::new(mode, 16) };
            let mut add = |flags: u8, settings: Settings<'_>, shape: [usize; 4], values: &[f32]| {
                let extents = match settings.order {
                    Order::Nchw => shape,
                    Order::Nhwc => [shape[0], shape[3], shape[1], shape[2]],
                };
                let tensor = HostTensor::from_f32(shape.to_vec(), values).expect("as long as it says");
                let frame = encode(&settings, &tensor).expect("it is taken");
                let head = [&[flags][..], &extents.map(|extent| extent as u8)].concat();
                seeds.push([head, frame].concat());
            };
            let mut values = maps::spots(1, [2, 5, 9, 10]);
            values[77] = f32::NAN;
            add(0, free, [2, 5, 9, 10], &values);
            add(AS_IT_IS, Settings { bound: Some(0.1), order: Order::Nhwc, ..free }, [2, 9, 10, 5], &values);
            add(0, free, [1, 3, 21, 20], &maps::spots(2, [1, 3, 21, 20]));
            add(0, free, [2, 11, 1, 1], &maps::spots(3, [2, 11, 1, 1]));
            add(0, free, [1, 6, 150, 140], &vec![0.5; 6 * 150 * 140]);
            let calibrated = Settings { package: Some(calibrated()), ..free };
            add(CALIBRATED, calibrated, [2, c, h, w], &maps::spots(4, [2, c, h, w]));
        }
    }
    seeds
}
