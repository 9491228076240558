//! The codecs this host speaks, as policies and other hosts are told, and what their work is assumed to cost.

use bps_codec::{CodecSpec, Layout};
use bps_graph::manifest::ModelManifest;
use bps_types::policy::{CodecInfo, DeviceKind};
use std::sync::LazyLock;

/// Loss of a codec where it cannot be used, parts per million: above every budget.
pub(crate) const LOSS_FORBIDDEN_PPM: f32 = 1e9;

/// A graphics processor packs in this fraction of one core's time.
const GPU_FACTOR: f32 = 0.05;
/// A software rasteriser takes this many times as long.
const SOFTWARE_FACTOR: f32 = 10.0;

/// All of them, by number, in the words of policies.
pub(crate) fn all() -> &'static [CodecInfo] {
    static ALL: LazyLock<Vec<CodecInfo>> = LazyLock::new(|| {
        let info = |c: &CodecSpec| CodecInfo {
            id: c.id,
            name: c.name.into(),
            rates: c.rates.to_vec(),
            lossless: c.lossless,
            for_input: c.for_input,
        };
        bps_codec::codecs().iter().map(info).collect()
    });
    &ALL
}

/// Those that a model's manifest lets policies use; raw is always among them. Errors where it names one that is not there.
pub(crate) fn permitted(manifest: &ModelManifest) -> Result<Vec<&'static CodecSpec>, String> {
    let known = bps_codec::codecs();
    let Some(names) = &manifest.codecs else { return Ok(known.iter().collect()) };
    if let Some(stranger) = names.iter().find(|name| !known.iter().any(|c| c.name == **name)) {
        let known: Vec<&str> = known.iter().map(|c| c.name).collect();
        return Err(format!("model.toml, codecs: {stranger:?} is not one of {}", known.join(", ")));
    }
    Ok(known.iter().filter(|c| c.id == bps_codec::RAW || names.iter().any(|name| name == c.name)).collect())
}

/// The rates a table has columns for; a codec without any has one column, rate 0.
pub(crate) fn columns(codec: &CodecSpec) -> &'static [u8] {
    if codec.rates.is_empty() { &[0] } else { codec.rates }
}

/// Nanoseconds per element to encode and to decode on a device of this kind: assumed, from one pessimistic core, so that a
/// measured device is preferred.
pub(crate) fn nanos_per_element_assumed(codec: &CodecSpec, kind: DeviceKind) -> (f32, f32) {
    let (encode, decode) = match codec.layout {
        Layout::Plain => (0.3, 0.3),
        Layout::F16 => (1.5, 1.0),
        Layout::Int8 => (1.5, 0.8),
        Layout::Jpeg => (10.0, 8.0),
        // Packed, with symbols that are chosen, and through contexts and rANS.
        Layout::Ff if codec.id == bps_codec::ff::ID_SCALAR => (3.0, 3.0),
        Layout::Ff if codec.id == bps_codec::ff::ID_CANCELLING => (90.0, 14.0),
        Layout::Ff => (14.0, 14.0),
    };
    let factor = match kind {
        DeviceKind::Gpu if !matches!(codec.layout, Layout::Jpeg | Layout::Ff) => GPU_FACTOR,
        DeviceKind::Cpu | DeviceKind::Gpu => 1.0,
        DeviceKind::Software if codec.layout == Layout::Ff => 1.0,
        DeviceKind::Software => SOFTWARE_FACTOR,
    };
    // The processor squeezes whatever device has laid the elements out: by the bytes that go in.
    let laid_out_bytes = match codec.layout {
        Layout::Plain => 4.0,
        Layout::F16 => 2.0,
        Layout::Int8 | Layout::Jpeg | Layout::Ff => 1.0,
    };
    let squeeze = if codec.squeezed { (3.0 * laid_out_bytes, laid_out_bytes) } else { (0.0, 0.0) };
    (encode * factor + squeeze.0, decode * factor + squeeze.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_narrows_codecs_and_may_name_only_those_there_are() {
        let of = |codecs: Option<&[&str]>| {
            let codecs = codecs.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
            let manifest = ModelManifest { codecs, ..ModelManifest::default() };
            permitted(&manifest).map(|list| list.iter().map(|c| c.name).collect::<Vec<_>>())
        };
        assert_eq!(of(None).unwrap().len(), bps_codec::codecs().len());
        assert_eq!(of(Some(&["int8", "f16"])).unwrap(), ["raw", "f16", "int8"]);
        assert_eq!(of(Some(&[])).unwrap(), ["raw"]);
        assert!(of(Some(&["int-8"])).unwrap_err().contains("\"int-8\" is not one of raw, raw-zstd"));
    }
}
