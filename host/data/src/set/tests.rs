//! What every set promises.

use super::*;
use std::collections::{HashMap, HashSet};

/// FNV-1a, to write down what pictures are.
fn digest(pictures: impl Iterator<Item = Picture>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    pictures.flat_map(|p| p.pixels.into_iter().chain([p.label])).fold(0xcbf2_9ce4_8422_2325, step)
}

#[test]
fn pictures_never_change() {
    // Written down once: figures that are published were measured on them.
    let table = [
        (Set::Digits, Split::Test, 32, 15619885050559133469),
        (Set::Digits, Split::Shifted, 64, 3359170428662562914),
        (Set::Shapes, Split::Test, 32, 16902851392443501430),
        (Set::Shapes, Split::Calibration, 64, 12948428580218079094),
    ];
    for (set, split, side, wanted) in table {
        assert_eq!(digest(rows(set, split, side, 20)), wanted, "{set} {split} {side}");
    }
}

#[test]
fn every_picture_has_its_size_and_all_labels_come() {
    for set in Set::ALL {
        for split in Split::ALL {
            for side in SIDES {
                let mut seen: HashMap<u8, usize> = HashMap::new();
                for picture in rows(set, split, side, 400) {
                    assert_eq!(picture.pixels.len(), side * side * set.channels());
                    *seen.entry(picture.label).or_default() += 1;
                }
                let labels: Vec<u8> = seen.keys().copied().collect();
                assert_eq!(labels.len(), CLASSES, "{set} {split}: {labels:?}");
                assert!(seen.values().all(|count| *count >= 15), "{set} {split}: {seen:?}");
            }
        }
    }
}

#[test]
fn splits_share_neither_pictures_nor_origins() {
    for set in Set::ALL {
        let mut pictures = HashSet::new();
        let mut origins: HashMap<u64, Split> = HashMap::new();
        for split in Split::ALL {
            for picture in rows(set, split, 32, 1_500) {
                assert!(pictures.insert(picture.pixels), "{set}: a picture of {split} was there before");
                if set == Set::Digits {
                    let first = *origins.entry(picture.origin).or_insert(split);
                    assert_eq!(first, split, "scan {} is in two splits", picture.origin);
                }
            }
        }
        assert!(set != Set::Digits || origins.len() == 1_797, "every scan is used: {}", origins.len());
    }
}

#[test]
fn seeds_differ_and_sizes_show_the_same_scene() {
    for set in Set::ALL {
        let picture = |seed, side| set.picture(Split::Train, side, seed, 5);
        assert_ne!(picture(1, 32).pixels, picture(2, 32).pixels);
        let (small, large) = (picture(1, 32), picture(1, 64));
        assert_eq!(small.label, large.label);
        let channels = set.channels();
        let mean = |at: usize| {
            let (pixel, channel) = (at / channels, at % channels);
            let (x, y) = (2 * (pixel % 32), 2 * (pixel / 32));
            let four = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)];
            four.map(|(x, y)| f32::from(large.pixels[(y * 64 + x) * channels + channel])).iter().sum::<f32>() / 4.0
        };
        let error: f32 = small.pixels.iter().enumerate().map(|(at, p)| (f32::from(*p) - mean(at)).abs()).sum();
        let error = error / small.pixels.len() as f32;
        assert!(error < 12.0, "{set}: mean difference {error} of 255");
    }
}

#[test]
fn shifted_pictures_are_darker() {
    for set in Set::ALL {
        let light = |split| {
            let pixels: Vec<u8> = rows(set, split, 32, 300).flat_map(|p| p.pixels).collect();
            pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / pixels.len() as f64
        };
        let (test, shifted) = (light(Split::Test), light(Split::Shifted));
        assert!(shifted < 0.8 * test, "{set}: {test} and {shifted}");
    }
}

#[test]
fn names_round_trip() {
    for set in Set::ALL {
        assert_eq!(set.to_string().parse(), Ok(set));
    }
    assert!("cats".parse::<Set>().unwrap_err().to_string().contains("digits, shapes"));
}
