//! The commands as a person gives them, on files.

use super::*;
use bps_codec::ff::{Calibration, Directions, Mode, Order, Package, Weights, calibrate};
use bps_codec::{Layout, codecs};
use bps_types::{DataType, HostTensor};
use clap::Parser;
use proptest::prelude::*;

/// A command line of `bps codec`.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: CodecArgs,
}

/// A folder with files, and the commands in it.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn put_tensor(&self, name: &str, tensor: &HostTensor) {
        self.put(name, &crate::npy::encode(tensor).unwrap());
    }

    fn tensor(&self, name: &str) -> HostTensor {
        crate::npy::parse(std::fs::read(self.path(name)).unwrap().into()).unwrap()
    }

    /// Words with a dot in them are files of the folder, unless they are numbers.
    fn command(&self, line: &str) -> CodecCommand {
        let is_file = |word: &str| word.contains('.') && word.parse::<f32>().is_err();
        let words = line.split(' ').map(|word| if is_file(word) { self.path(word) } else { word.to_owned() });
        Line::try_parse_from(["codec".to_owned()].into_iter().chain(words))
            .unwrap_or_else(|e| panic!("{e}"))
            .args
            .command
    }

    fn encode(&self, line: &str) -> Result<encode::Report> {
        let CodecCommand::Encode(args) = self.command(&format!("encode --repeat 1 {line}")) else { panic!("{line}") };
        encode::run(&args)
    }

    fn decode(&self, line: &str) -> Result<decode::Report> {
        let CodecCommand::Decode(args) = self.command(&format!("decode --repeat 1 {line}")) else { panic!("{line}") };
        decode::run(&args)
    }

    /// What failed and why.
    #[track_caller]
    fn fails<T: std::fmt::Debug>(result: Result<T>, wanted: &str) {
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(wanted), "{error:?} lacks {wanted:?}");
    }
}

/// Soft maps.
fn maps(shape: &[usize]) -> HostTensor {
    let value = |i: usize| (i as f32 * 0.07).sin() + (i % 13) as f32 * 0.02;
    HostTensor::from_f32(shape.to_vec(), &(0..shape.iter().product()).map(value).collect::<Vec<_>>()).unwrap()
}

fn image() -> HostTensor {
    let pixels: Vec<u8> = (0..2 * 16 * 16 * 3).map(|i| (i % 251) as u8).collect();
    HostTensor::new(DataType::Uint8, vec![2, 16, 16, 3], pixels.into()).unwrap()
}

fn package() -> Package {
    let cut = |name| {
        let samples: Vec<_> = (1..4).map(|rows| maps(&[rows, 6, 8, 8])).collect();
        let (samples, weights) = (&samples[..], &Weights::default());
        let (modes, rates, order) = (&Mode::ALL, &[8, 16][..], Order::Nchw);
        let of = |directions| {
            let model = [7; 32];
            calibrate(&Calibration { name, model, samples, order, modes, rates, weights, directions }).unwrap()
        };
        let directions = Directions::made_up(&[1, 6, 8, 8], 5).unwrap();
        of(None).with_cancelling(of(Some(&directions))).unwrap()
    };
    Package::new([7; 32], vec![cut("block1"), cut("block2")]).unwrap()
}

#[test]
fn every_codec_comes_back_at_its_ends() {
    let desk = Desk::new();
    desk.put_tensor("maps.npy", &maps(&[2, 6, 8, 8]));
    desk.put_tensor("image.npy", &image());
    for spec in codecs() {
        let name = spec.name;
        let file = if spec.for_input { "image.npy" } else { "maps.npy" };
        let mut rates: Vec<u8> = spec.rates.first().into_iter().chain(spec.rates.last()).copied().collect();
        rates.resize(rates.len().max(1), 0);
        for rate in rates {
            let report = desk.encode(&format!("{file} -o out.bpsc --codec {name} --rate {rate}")).unwrap();
            assert_eq!((report.codec, report.rate, spec.lossless), (name, rate, report.difference.largest == 0.0));
            let got = desk.decode("out.bpsc -o back.npy").unwrap();
            assert_eq!((got.rate, got.mode.is_some()), (rate, spec.layout == Layout::Ff));
            let (back, given) = (desk.tensor("back.npy"), desk.tensor(file));
            assert_eq!(difference::difference(&given, &back).unwrap(), report.difference, "{name}");
            // The same bytes alone.
            let shape: Vec<String> = given.shape().iter().map(usize::to_string).collect();
            let (shape, raw) = (shape.join(","), format!("{file} -o out.raw --raw-frame --codec {name} --rate {rate}"));
            assert!(encode::text(&desk.encode(&raw).unwrap()).contains(&format!("--shape {shape}")));
            assert_eq!(std::fs::read(desk.path("out.raw")).unwrap().len(), report.bytes_out);
            desk.decode(&format!("out.raw -o raw.npy --codec {name} --rate {rate} --shape {shape}")).unwrap();
            assert_eq!(desk.tensor("raw.npy"), back);
        }
    }
}

#[test]
fn every_way_of_ff_comes_back() {
    let desk = Desk::new();
    desk.put_tensor("maps.npy", &maps(&[2, 6, 8, 8]));
    desk.put("net.ff", &package().to_bytes().unwrap());
    for (codec, mode) in [("ff-s", "ff-s"), ("ff-h", "ff-h1"), ("ff-h1", "ff-h1"), ("ff-h2", "ff-h2")] {
        for options in
            ["", " --entropy pack", " --entropy zstd", " --entropy rans", " --rate 7", " --order nhwc", " --bound 0.01"]
        {
            let report = desk.encode(&format!("maps.npy -o out.bpsc --codec {codec}{options}")).unwrap();
            let ff = report.ff.as_ref().unwrap();
            assert_eq!((ff.mode, report.difference.nmse.unwrap() < 0.05), (mode, true), "{codec}{options}");
            assert!(!options.contains("bound") || report.difference.largest <= 0.01, "{:?}", report.difference);
            assert!(encode::text(&report).contains(&format!("mode {mode}")));
            let got = desk.decode("out.bpsc -o back.npy").unwrap();
            assert_eq!(got.mode, Some(mode));
            assert_eq!(decode::text(&got).contains("nhwc"), options.contains("nhwc"));
        }
    }
    // Rank, and rows that are none.
    for shape in [&[][..], &[5], &[2, 9], &[2, 3, 4], &[2, 3, 2, 2, 2], &[0, 4, 3, 3]] {
        desk.put_tensor("odd.npy", &maps(shape));
        desk.encode("odd.npy -o out.bpsc").unwrap();
        desk.decode("out.bpsc -o back.npy").unwrap();
        assert_eq!(desk.tensor("back.npy").shape(), shape);
    }
}

#[test]
fn packages_are_used_and_must_be_the_same() {
    let desk = Desk::new();
    desk.put_tensor("maps.npy", &maps(&[2, 6, 8, 8]));
    desk.put("net.ff", &package().to_bytes().unwrap());
    desk.put("bad.ff", b"BPSFFPK1");
    let report = desk.encode("maps.npy -o out.bpsc --package net.ff --cut block2").unwrap();
    assert!(encode::text(&report).contains("package block2"), "{report:?}");
    desk.decode("out.bpsc -o back.npy --package net.ff").unwrap();
    desk.decode("out.bpsc -o back.npy --package net.ff --cut block2").unwrap();
    let report = desk.encode("maps.npy -o aimed.bpsc --codec ff-c --package net.ff --cut block2").unwrap();
    assert!(!encode::text(&report).contains("no errors cancel"), "{report:?}");
    for without in [" --package net.ff --cut block2 --bound 0.1", " --package net.ff --cut block2 --entropy pack", ""] {
        let report = desk.encode(&format!("maps.npy -o other.bpsc --codec ff-c{without}")).unwrap();
        assert!(encode::text(&report).contains("no errors cancel"), "{without}: {report:?}");
    }
    let bytes = |name: &str| std::fs::read(desk.path(name)).unwrap();
    assert_ne!(bytes("out.bpsc"), bytes("aimed.bpsc"));
    desk.decode("aimed.bpsc -o back.npy --package net.ff").unwrap();
    desk.decode("aimed.bpsc -o back.npy --package net.ff --cut block2").unwrap();
    let other = desk.decode("out.bpsc -o back.npy --package net.ff --cut block1");
    Desk::fails(other, "the frame was made with package");
    Desk::fails(desk.decode("out.bpsc -o back.npy"), "give it, --package MODEL.ff: byte 8, package");
    Desk::fails(desk.encode("maps.npy -o o.x --package net.ff"), "say which cut, --cut NAME; ");
    Desk::fails(desk.encode("maps.npy -o o.x --package net.ff --cut b"), "has block1, block2");
    Desk::fails(desk.encode("maps.npy -o o.x --package bad.ff --cut b"), "not a package of FF: package, head");
    let rate = desk.encode("maps.npy -o o.x --package net.ff --cut block1 --rate 20");
    Desk::fails(rate, "the package of block1 has nothing for");
    // Without need of it, a package does no harm.
    desk.encode("maps.npy -o out.bpsc").unwrap();
    desk.decode("out.bpsc -o back.npy --package net.ff").unwrap();
}

#[test]
fn mistakes_are_named() {
    let desk = Desk::new();
    desk.put_tensor("maps.npy", &maps(&[2, 6, 8, 8]));
    desk.put("net.ff", &package().to_bytes().unwrap());
    desk.put_tensor("wide.npy", &HostTensor::new(DataType::Fp64, vec![1], vec![0; 8].into()).unwrap());
    for (line, wanted) in [
        ("maps.npy -o o.x --codec f16 --bound 1", "--bound is for ff-s, ff-h and ff-c, not for f16"),
        ("maps.npy -o o.x --codec raw --entropy rans", "--entropy is for ff-s"),
        ("maps.npy -o o.x --codec raw --order nhwc", "--order is for ff-s"),
        ("maps.npy -o o.x --codec raw --package net.ff", "--package is for ff-s"),
        ("maps.npy -o o.x --codec fly", "there are raw, raw-zstd"),
        ("maps.npy -o o.x --rate 99", "0 (finest) to 31"),
        ("maps.npy -o o.x --device tpu", "tpu"),
        ("none.npy -o o.x", "none.npy"),
        ("maps.npy -o maps.npy", "is an input"),
        ("maps.npy -o net.ff --package net.ff --cut block1", "is an input"),
        ("wide.npy -o o.x", "holds FP64; codec ff-h takes FP32: save x.astype(numpy.float32)"),
        ("maps.npy -o o.x --codec jpeg", "holds FP32; codec jpeg takes UINT8"),
        ("maps.npy -o o.x --bound 1e-38", "cannot be kept"),
    ] {
        Desk::fails(desk.encode(line), wanted);
    }
    assert!(!Path::new(&desk.path("o.x")).exists(), "nothing is written");
    desk.encode("maps.npy -o maps.bpsc --codec f16").unwrap();
    desk.encode("maps.npy -o maps.raw --raw-frame").unwrap();
    for (line, wanted) in [
        ("maps.npy -o o.x", "maps.npy cannot be decoded: byte 0, magic"),
        ("maps.bpsc -o maps.bpsc", "is an input"),
        ("maps.bpsc -o o.x --package net.ff", "--package is for ff-s"),
        ("maps.bpsc -o o.x --codec f16 --shape 2,6,8,8", "without --raw-frame"),
        ("maps.raw -o o.x --codec ff-h --shape 2,6,8", "byte 28, shape"),
        ("maps.raw -o o.x --codec ff-h --rate 15 --shape 2,6,8,8", "rate: it is 16, but said to be 15"),
        ("maps.raw -o o.x --codec ff-s --shape 2,6,8,8", "mode: it is ff-h1, but said to be ff-s"),
        ("maps.raw -o o.x --codec f16 --shape 2,6,8,8", "1536 bytes expected"),
        ("maps.raw -o o.x --codec f16 --shape 4294967296,4294967296", "--shape: at most 8 extents"),
        ("maps.raw -o o.x --codec f16 --shape 2 --data-type INT8", "--data-type INT8: f16 does not take it"),
    ] {
        Desk::fails(desk.decode(line), wanted);
    }
    assert!(!Path::new(&desk.path("o.x")).exists(), "nothing is written");
}

#[test]
fn words_that_do_not_go_together() {
    for line in [
        "encode a.npy",
        "encode a.npy -o b --cut c",
        "encode a.npy -o b --bound nan",
        "encode a.npy -o b --repeat 0",
        "decode a -o b --codec f16",
        "decode a -o b --shape 1,2",
        "decode a -o b --codec raw --shape 1 --data-type bytes",
    ] {
        assert!(Line::try_parse_from(["codec"].into_iter().chain(line.split(' '))).is_err(), "{line}");
    }
}

#[test]
fn a_software_device_makes_what_the_processor_makes() {
    let desk = Desk::new();
    desk.put_tensor("maps.npy", &maps(&[2, 6, 8, 8]));
    if let Err(reason) = place::Place::open("software") {
        return eprintln!("skipped: {reason:#}");
    }
    desk.put("net.ff", &package().to_bytes().unwrap());
    let packaged = "--package net.ff --cut block1";
    for (codec, on) in [
        ("raw", "software"),
        ("f16", "software"),
        ("f16-zstd", "software"),
        ("int8", "software"),
        ("ff-s", "software"),
        ("ff-h", "software"),
        (&format!("ff-h {packaged}"), "software"),
        (&format!("ff-c {packaged}"), "software"),
        // What only the processor does.
        ("ff-h --bound 0.01", "cpu"),
        ("ff-h1", "cpu"),
        ("ff-h --rate 7", "cpu"),
    ] {
        let report = desk.encode(&format!("maps.npy -o out.bpsc --codec {codec} --device software")).unwrap();
        let text = encode::text(&report);
        assert!(text.contains("note") && text.contains(&format!("on {on}")), "{codec}: {text}");
        let with = if codec.contains("net.ff") { " --package net.ff" } else { "" };
        desk.decode(&format!("out.bpsc -o back.npy --device software{with}")).unwrap();
        let seen = difference::difference(&desk.tensor("maps.npy"), &desk.tensor("back.npy")).unwrap();
        // Steps of ff-c are twice as large, for errors that cancel.
        let most = if codec.starts_with("ff-c") { 0.08 } else { 0.02 };
        assert!(seen.nmse.unwrap() < most, "{codec}: {seen:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Changed bytes under a checksum that is right end in a tensor of the stated shape or in an error, whatever the codec.
    #[test]
    fn no_change_of_a_file_makes_the_decoder_fall(
        which in 0usize..9, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let desk = Desk::new();
        let spec = &codecs()[which % codecs().len()];
        desk.put_tensor("given.npy", &if spec.for_input { image() } else { maps(&[1, 3, 5, 6]) });
        desk.encode(&format!("given.npy -o out.bpsc --codec {}", spec.name)).unwrap();
        let mut file = std::fs::read(desk.path("out.bpsc")).unwrap();
        let end = file.len() - 4;
        for (at, byte) in changes {
            file[at.index(end)] = byte;
        }
        let crc = crc32c::crc32c(&file[..end]);
        file[end..].copy_from_slice(&crc.to_le_bytes());
        desk.put("out.bpsc", &file);
        match desk.decode("out.bpsc -o back.npy") {
            Ok(_) => prop_assert!(Path::new(&desk.path("back.npy")).exists()),
            Err(error) => prop_assert!(format!("{error:#}").contains("out.bpsc"), "{error:#}"),
        }
    }
}

#[test]
fn the_files_of_a_package_and_a_frame_are_bounded() {
    let desk = Desk::new();
    desk.put("long.x", &[0; 100]);
    let error = read_file(Path::new(&desk.path("long.x")), 99).unwrap_err().to_string();
    assert!(error.contains("more than the 99 bytes"), "{error}");
    assert_eq!(read_file(Path::new(&desk.path("long.x")), 100).unwrap().len(), 100);
    #[cfg(unix)]
    assert!(read_file(Path::new("/dev/zero"), 1 << 16).is_err());
}
