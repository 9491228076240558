//! A `model.toml`, which comes with a model from elsewhere. What is read must come back when it is written.

#![no_main]

use bps_fuzz::{seed, within};
use bps_graph::manifest::{host_part, parse};
use bps_types::policy::DeviceKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seed(SEEDS.map(|text| text.as_bytes().to_vec()), &WORDS), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    within((1 << 20) + 512 * text.len(), || match parse(text) {
        Ok(manifest) => {
            manifest.placement.permits("server/gpu:0", DeviceKind::Gpu);
            let hosts = manifest.placement.names().filter_map(host_part);
            assert!(hosts.map(str::len).sum::<usize>() <= text.len());
            let written = toml::to_string(&manifest).expect("what was read can be written");
            assert_eq!(parse(&written).expect("what was written can be read"), manifest);
        }
        Err(error) => assert!(error.to_string().contains("model.toml")),
    });
});

const SEEDS: [&str; 4] = [
    include_str!("../../../models/digits/model.toml"),
    "slo_ms = 50\npriority = 7\nbatch_max = 8\naccuracy_budget_ppm = 1000\ncodecs = [\"f16\", \"int8\"]\nqueue_max = 64\n\
     exportable = false\n[placement]\nallow = [\"gpu\", \"cpu:0/2\"]\ndeny = [\"software\", \"s*r/*\"]\nlocal_only = true\n",
    "[preprocess]\ninput = 'x'\nwidth = 32\nheight = 0x10\nchannels = 1\nlayout = \"nchw\"\nmean = [127.5]\n\
     scale = [7.84e-3]\n[calibration]\ndata = 'calibration/digits.bin' # inside\n",
    "placement.allow = [\"\"\"a\nb\"\"\", '''c''', \"\\u00e9\\n\"]\nslo_ms = 1_000.5\npreprocess = { channels = 3 }\n",
];

const WORDS: [&str; 32] = [
    "slo_ms",
    "priority",
    "batch_max",
    "accuracy_budget_ppm",
    "codecs",
    "queue_max",
    "exportable",
    "placement",
    "allow",
    "deny",
    "local_only",
    "preprocess",
    "input",
    "width",
    "height",
    "channels",
    "layout",
    "nchw",
    "mean",
    "scale",
    "calibration",
    "data",
    "true",
    "false",
    "inf",
    "nan",
    "0x",
    "1e308",
    "[[",
    "..",
    "\"\"\"",
    "1979-05-27T07:32:00Z",
];
