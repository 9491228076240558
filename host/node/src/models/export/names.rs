//! What the files of a model that travels may be called, and what a list of them must say. Both sides hold to it: who gives
//! refuses to list other names, who fetches takes no list for granted.
//!
//! A name that is taken means a file in the model's own folder and nothing else, on every system: it is plain ASCII, has no
//! separators, is none of the names that the folder keeps for itself or Windows for devices, and differs from all others by
//! more than the case of its letters.

use bps_codec::ff::PACKAGE_BYTES_MAX;
use bps_graph::manifest;
use bps_wire::{FILE_NAME_BYTES_MAX, ModelList};
use std::collections::BTreeSet;

/// The model itself; first in every list.
pub(crate) const MODEL: &str = "model.onnx";
/// What FF was calibrated with.
pub(crate) const CALIBRATION: &str = "model.ff";
/// Where a fetched model came from.
pub(crate) const ORIGIN: &str = "origin.json";
/// The list under which it came.
pub(crate) const LIST: &str = "files.json";

/// Names in a fetched model's folder that are not for its files.
const KEPT: [&str; 3] = [manifest::FILE_NAME, ORIGIN, LIST];
/// What Windows takes for devices, whatever follows behind a dot.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Checks a list before anything is done about it; returns the bytes of all its files.
///
/// # Errors
/// The first file that cannot be taken, and why; for people.
pub(crate) fn check_list(list: &ModelList) -> Result<u64, String> {
    if list.files.first().is_none_or(|file| file.name != MODEL) {
        return Err(format!("the first file that is listed is not {MODEL}"));
    }
    check_names(list.files.iter().map(|file| file.name.as_str()))?;
    let mut sum = 0u64;
    for file in &list.files {
        let (name, bytes) = (&file.name, file.bytes);
        if bytes == 0 {
            return Err(format!("file {name:?} has no bytes"));
        }
        if name == CALIBRATION && bytes > PACKAGE_BYTES_MAX as u64 {
            return Err(format!("file {name:?} has {bytes} bytes, at most {PACKAGE_BYTES_MAX} are taken"));
        }
        sum = sum.checked_add(bytes).ok_or_else(|| format!("file {name:?} has {bytes} bytes, which cannot be"))?;
    }
    Ok(sum)
}

/// Checks names that are to lie in one folder.
///
/// # Errors
/// The first that cannot be taken, and why; for people.
pub(crate) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut taken = BTreeSet::new();
    for name in names {
        let fault = fault(name).or_else(|| {
            let is_new = taken.insert(name.to_ascii_lowercase());
            (!is_new).then_some("is there twice, or differs from another one by the case of letters only")
        });
        if let Some(fault) = fault {
            return Err(format!("file {name:?} {fault}"));
        }
    }
    Ok(())
}

/// Why a name is not taken; none where it is.
fn fault(name: &str) -> Option<&'static str> {
    let is_plain = |c: u8| c.is_ascii_graphic() || c == b' ';
    let lower = name.to_ascii_lowercase();
    let stem = lower.split('.').next().unwrap_or_default().trim_end();
    // COM1, LPT9 and the like.
    let numbered = ["com", "lpt"].iter().filter_map(|port| stem.strip_prefix(port)).any(|rest| rest.len() == 1);
    if name.is_empty() || name.len() > FILE_NAME_BYTES_MAX {
        Some("has a name that is empty or too long")
    } else if !name.bytes().all(is_plain) || name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|']) {
        Some("has a name with characters other than those of a plain file name")
    } else if name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']) {
        Some("has a name that begins or ends with a dot or a space")
    } else if KEPT.contains(&lower.as_str()) || DEVICES.contains(&stem) || numbered {
        Some("has a name that is reserved")
    } else if [MODEL, CALIBRATION].contains(&lower.as_str()) && lower != name {
        Some("has a name that differs from a reserved one by the case of letters only")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_wire::ModelFile;

    fn list(files: &[(&str, u64)]) -> ModelList {
        let file = |(name, bytes): &(&str, u64)| ModelFile { name: (*name).into(), bytes: *bytes, digest: [1; 32] };
        ModelList { digest: [7; 32], manifest: String::new(), files: files.iter().map(file).collect() }
    }

    #[test]
    fn usual_names_are_taken() {
        let files = [
            (MODEL, 10),
            ("model.onnx.data", 20),
            ("model.onnx_data", 30),
            ("layer1.0.conv1.weight", 40),
            ("onnx__MatMul_123 (copy)", 50),
            ("console.bin", 1),
            ("com12", 1),
            (CALIBRATION, 60),
        ];
        assert_eq!(check_list(&list(&files)), Ok(212));
    }

    #[test]
    fn a_name_that_may_mean_anything_else_than_a_file_here_is_refused() {
        let long = "n".repeat(FILE_NAME_BYTES_MAX + 1);
        let names = [
            "",
            ".",
            "..",
            "../w.bin",
            "a/w.bin",
            "/etc/passwd",
            "a\\w.bin",
            "C:w.bin",
            "w.bin:stream",
            "w\0.bin",
            "w\n.bin",
            "w\u{e9}.bin",
            "\u{202e}nib.w",
            ".hidden",
            "w.bin.",
            "w.bin ",
            " w.bin",
            "model.toml",
            "Model.TOML",
            "origin.json",
            "files.json",
            "Model.onnx",
            "MODEL.FF",
            "nul",
            "NUL.bin",
            "con.tar.gz",
            "aux .bin",
            "com1",
            "LPT9.bin",
            &long,
        ];
        for name in names {
            let error = check_list(&list(&[(MODEL, 10), (name, 10)])).expect_err(name);
            assert!(error.contains(&format!("{name:?}")), "{name:?}: {error}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_is_refused_and_the_file_named() {
        let large = PACKAGE_BYTES_MAX as u64 + 1;
        let cases: [(&[(&str, u64)], &str); 8] = [
            (&[], "the first file that is listed is not model.onnx"),
            (&[("w.bin", 10), (MODEL, 10)], "the first file that is listed is not model.onnx"),
            (&[(MODEL, 10), (MODEL, 10)], "file \"model.onnx\" is there twice"),
            (&[(MODEL, 10), ("w.bin", 10), ("W.bin", 10)], "file \"W.bin\" is there twice"),
            (&[(MODEL, 0)], "file \"model.onnx\" has no bytes"),
            (&[(MODEL, 10), ("w.bin", 0)], "file \"w.bin\" has no bytes"),
            (&[(MODEL, 10), ("w.bin", u64::MAX)], "file \"w.bin\" has 18446744073709551615 bytes, which cannot be"),
            (&[(MODEL, 10), (CALIBRATION, large)], "file \"model.ff\" has 67108865 bytes, at most"),
        ];
        for (files, expected) in cases {
            let error = check_list(&list(files)).expect_err(expected);
            assert!(error.starts_with(expected), "{expected}: {error}");
        }
    }
}
