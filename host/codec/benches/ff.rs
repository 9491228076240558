//! How fast FF is on one core: medians of encoding and decoding one activation, in bytes of FP32 a second, with size and
//! error of the same frame beside them. Run with `cargo bench -p bps-codec --bench ff`.

#![allow(clippy::print_stdout, clippy::expect_used, unreachable_pub, reason = "it prints what it measured")]

use bps_codec::ff::{
    Calibration, CutPackage, Directions, Entropy, Mode, Order, Settings, Weights, calibrate, decode, encode,
};
use bps_types::HostTensor;
use std::hint::black_box;
use std::time::{Duration, Instant};

#[path = "../src/ff/tests/maps.rs"]
mod maps;

const REPETITIONS: usize = 25;

/// The median and the quickest.
fn times(mut work: impl FnMut()) -> [Duration; 2] {
    work();
    let mut times: Vec<_> = (0..REPETITIONS)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed()
        })
        .collect();
    times.sort();
    [times[REPETITIONS / 2], times[0]]
}

fn line(name: &str, bytes: usize, frame: usize, error: f64, encode: [Duration; 2], decode: [Duration; 2]) {
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{name:<22} {:>7.3} bit/el  NMSE {error:<8.1e} encode {:>5.0} MB/s (best {:>5.0}) {:>6.2} ms   decode {:>5.0} MB/s (best {:>5.0}) {:>6.2} ms",
        32.0 * frame as f64 / bytes as f64,
        rate(encode[0]),
        rate(encode[1]),
        encode[0].as_secs_f64() * 1e3,
        rate(decode[0]),
        rate(decode[1]),
        decode[0].as_secs_f64() * 1e3,
    );
}

/// Whether the command line asks for this line: an argument picks those that contain it.
fn wanted(name: &str) -> bool {
    let mut parts = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    parts.peek().is_none() || parts.any(|part| name.contains(&part))
}

fn measure(name: &str, settings: &Settings<'_>, tensor: &HostTensor) {
    if !wanted(name) {
        return;
    }
    let shape = tensor.shape();
    let frame = encode(settings, tensor).expect("a sound setting");
    let got = decode(&frame, shape, settings.order, settings.package).expect("a whole frame");
    let error = maps::nmse(&tensor.to_f32().expect("FP32"), &got.to_f32().expect("FP32"));
    let put = times(|| drop(black_box(encode(settings, black_box(tensor)))));
    let get = times(|| drop(black_box(decode(black_box(&frame), shape, settings.order, settings.package))));
    line(name, tensor.data().len(), frame.len(), error, put, get);
}

fn run(shape: [usize; 4], package: Option<&CutPackage>) {
    let tensor = HostTensor::from_f32(shape.to_vec(), &maps::spots(1, shape)).expect("a sound shape");
    let origin = match package {
        None => "data-free",
        Some(package) if package.directions().is_some() => "calibrated, errors cancel",
        Some(_) => "calibrated",
    };
    println!("\n{shape:?}, {:.1} MB, {origin}", tensor.data().len() as f64 / 1e6);
    for mode in Mode::ALL {
        for entropy in Entropy::ALL {
            for q in [12, 20] {
                let settings = Settings { entropy, package, ..Settings::new(mode, q) };
                measure(&format!("{} {entropy:?} q{q}", mode.name()), &settings, &tensor);
            }
        }
    }
    let inside = Settings { order: Order::Nhwc, package, ..Settings::new(Mode::Haar1, 16) };
    let ([n, c, h, w], values) = (shape, tensor.to_f32().expect("FP32"));
    let place = |i: usize| (i / (h * w * c) * c + i % c) * h * w + i / c % (h * w);
    let turned: Vec<f32> = (0..values.len()).map(|i| values[place(i)]).collect();
    let turned = HostTensor::from_f32(vec![n, h, w, c], &turned).expect("a sound shape");
    measure("ff-h1 Rans q16 NHWC", &Settings { package: None, ..inside }, &turned);
    for codec in [4, 5] {
        let name = bps_codec::spec(codec).map_or("?", |spec| spec.name);
        if !wanted(name) {
            continue;
        }
        let packed = bps_codec::encode(codec, 0, &tensor).expect("FP32");
        let got = bps_codec::decode(&packed, &shape).expect("whole");
        let error = maps::nmse(&tensor.to_f32().expect("FP32"), &got.to_f32().expect("FP32"));
        let put = times(|| drop(black_box(bps_codec::encode(codec, 0, black_box(&tensor)))));
        let get = times(|| drop(black_box(bps_codec::decode(black_box(&packed), &shape))));
        line(name, tensor.data().len(), packed.data.len(), error, put, get);
    }
}

fn main() {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    one.install(|| {
        // As large as the activation behind the first block of a ResNet at 224 px, and four times that.
        for shape in [[1, 64, 56, 56], [1, 64, 112, 112], [8, 128, 14, 14], [64, 4_096, 1, 1]] {
            run(shape, None);
        }
        run([1, 64, 56, 56], Some(&package([1, 64, 56, 56], None)));
        // The largest rows whose errors may cancel.
        let shape = [1, 64, 32, 32];
        run(shape, Some(&package(shape, Some(&directions(shape)))));
    });
}

/// Made-up directions: as many as there may be, and slopes without pattern.
fn directions(shape: [usize; 4]) -> Directions {
    let mut dice = maps::Dice(5);
    let jacobian: Vec<f32> = (0..16 * shape.iter().product::<usize>()).map(|_| dice.roll() - 0.5).collect();
    Directions::of(&jacobian, &shape).expect("a shape that fits").expect("slopes")
}

fn package(shape: [usize; 4], directions: Option<&Directions>) -> CutPackage {
    let sample =
        |seed: u64| HostTensor::from_f32(shape.to_vec(), &maps::spots(50 + seed, shape)).expect("a sound shape");
    calibrate(&Calibration {
        name: "bench",
        model: [0; 32],
        samples: &[sample(0), sample(1)],
        order: Order::Nchw,
        modes: &Mode::ALL,
        rates: &[12, 20],
        weights: &Weights::default(),
        directions,
    })
    .expect("sound samples")
}
