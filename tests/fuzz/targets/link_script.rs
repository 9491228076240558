//! A script of the emulated link, TOML or JSON. Its steps ascend and are as many as there are moments.

#![no_main]

use bps_emulator::{Conditions, Script};
use bps_fuzz::{seed, within};
use bps_types::Nanos;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seed(SEEDS.map(|text| text.as_bytes().to_vec()), &WORDS), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    within((1 << 20) + 512 * text.len(), || match Script::parse(text) {
        Ok(script) => {
            let steps = script.steps(Conditions::link(Some(1e8), Nanos(1_000_000)));
            assert_eq!(steps.is_empty(), script.is_empty());
            assert!(steps.is_sorted_by(|a, b| a.at < b.at));
            for step in steps {
                assert!((0.0..=1.0).contains(&step.conditions.loss.mean()), "{step:?}");
                assert!(step.conditions.rate.is_none_or(f64::is_normal), "{step:?}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    });
});

const SEEDS: [&str; 4] = [
    "[[change]]\nat = \"1s\"\nstall = \"2s\"\ncorrupt = true\n[[change]]\nat = \"2s\"\nswallow = \"1ms\"\n\
     [[change]]\nat = \"3s\"\ncut = \"500ms\"\nroam = \"1s\"\n",
    "[[change]]\nat = \"8s\"\ndown = \"2s\"\n[[change]]\nat = \"5s\"\nrate = \"10Mbit\"\nloss = \"1%\"\n\
     [[change]]\nat = \"12.5s\"\nroam = \"300ms\"\nrtt = \"60ms\"\nqueue_bytes = 9000\n",
    "[[change]]\nat = \"1us\"\nrate = \"unlimited\"\nbursts = { enter = 0.01, leave = 0.2, lost = 0.8 }\n\
     [[change]]\nat = \"1s\"\nrate = \"0.5Gbps\"\nloss = \"0.25\"\n",
    "{\"change\": [{\"at\": \"8s\", \"down\": \"2s\"}, {\"at\": \"5s\", \"rate\": \"10 kbit/s\", \"loss\": \"1 %\"},\n\
     {\"at\": \"12ns\", \"roam\": \"300µs\", \"bursts\": {\"enter\": 1e-3, \"leave\": 1, \"lost\": 0}}]}",
];

const WORDS: [&str; 31] = [
    "stall",
    "swallow",
    "cut",
    "corrupt",
    "true",
    "[[change]]",
    "at",
    "rate",
    "rtt",
    "loss",
    "bursts",
    "queue_bytes",
    "down",
    "roam",
    "enter",
    "leave",
    "lost",
    "unlimited",
    "Gbit",
    "Mbit",
    "kbit",
    "/s",
    "ps",
    "ns",
    "us",
    "ms",
    "inf",
    "nan",
    "1e999",
    "86400s",
    "\\\\u0000",
];
