//! The components that come with bps, compiled in. `plugins/<name>/` holds the source of each, `bash plugins/build`
//! rebuilds it, and `<name>.toml` records what it was made of.

/// A component that comes with bps.
#[derive(Clone, Copy, Debug)]
pub struct Prebuilt {
    /// Its name, as in its manifest.
    pub name: &'static str,
    /// One sentence, without loading it.
    pub summary: &'static str,
    /// The component.
    pub wasm: &'static [u8],
    /// Its record: hashes of source and component, toolchain, flags (TOML).
    pub record: &'static str,
}

macro_rules! prebuilt {
    ($name:literal, $summary:literal) => {
        Prebuilt {
            name: $name,
            summary: $summary,
            wasm: include_bytes!(concat!("../../../plugins/", $name, "/", $name, ".wasm")),
            record: include_str!(concat!("../../../plugins/", $name, "/", $name, ".toml")),
        }
    };
}

static POLICIES: [Prebuilt; 9] = [
    prebuilt!("bps", "Cut, batch, codec and share of every host, chosen together from live estimates."),
    prebuilt!("local-only", "One request at a time, on this machine's least busy device."),
    prebuilt!("batching", "Batch size and wait chosen from measured costs, arrivals and deadlines."),
    prebuilt!("round-robin", "This machine's devices take turns, with batches of up to a set size."),
    prebuilt!("surgeon", "Each request along the cut and codec that answer it first."),
    prebuilt!("pipelining", "Micro-batches through the cut whose slowest part is the quickest."),
    prebuilt!("data-parallel", "Whole models on the devices of all hosts, in proportion to their speed."),
    prebuilt!("remote-only", "Whole models on the best device of another host; here only while none can be reached."),
    prebuilt!("baselines", "The rules that bps is measured against: Neurosurgeon, DADS, static, greedy, AIMD."),
];

/// Misbehaves on request; shows and tests what the host does about it. Not among [`all`].
pub static CHAOS: Prebuilt = prebuilt!("chaos", "Misbehaves in one way at a time; for tests only.");

/// The policies that come with bps.
pub fn all() -> &'static [Prebuilt] {
    &POLICIES
}

/// The one with this name, [`CHAOS`] included.
pub fn find(name: &str) -> Option<&'static Prebuilt> {
    POLICIES.iter().chain([&CHAOS]).find(|known| known.name == name)
}

/// Whether these are the bytes of one of them.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    POLICIES.iter().chain([&CHAOS]).any(|known| known.wasm == bytes)
}
