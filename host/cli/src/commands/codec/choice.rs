//! Which codec is meant, at which rate, and for FF how.

use super::{keep_input, read_file};
use crate::exit::usage;
use anyhow::{Context, Result};
use bps_codec::ff::{self, CutPackage, Entropy, Frame, Mode, Order, Package, Settings};
use bps_codec::{CodecSpec, Layout, codecs};
use std::path::{Path, PathBuf};

/// Names of ff-h with its levels, for those who want to compare them.
const LEVELS: [Mode; 2] = [Mode::Haar1, Mode::Haar2];

/// What is done to symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum EntropyName {
    /// Zero bitmaps and fixed widths: fast.
    Pack,
    /// The same, then zstd.
    Zstd,
    /// Contexts and range coding: small.
    Rans,
}

/// Order of a tensor's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OrderName {
    /// [rows, channels, height, width].
    Nchw,
    /// [rows, height, width, channels].
    Nhwc,
}

impl EntropyName {
    /// As the codec calls it.
    pub(super) fn entropy(self) -> Entropy {
        match self {
            Self::Pack => Entropy::Pack,
            Self::Zstd => Entropy::Zstd,
            Self::Rans => Entropy::Rans,
        }
    }
}

impl OrderName {
    /// As the codec calls it.
    pub(super) fn order(self) -> Order {
        match self {
            Self::Nchw => Order::Nchw,
            Self::Nhwc => Order::Nhwc,
        }
    }
}

/// The word for it.
pub(super) fn entropy_name(entropy: Entropy) -> &'static str {
    match entropy {
        Entropy::Pack => "pack",
        Entropy::Zstd => "zstd",
        Entropy::Rans => "rans",
    }
}

/// The word for it.
pub(super) fn order_name(order: Order) -> &'static str {
    match order {
        Order::Nchw => "nchw",
        Order::Nhwc => "nhwc",
    }
}

/// The codec of this name, and the mode if the name asks for one.
pub(super) fn by_name(name: &str) -> Result<(&'static CodecSpec, Option<Mode>)> {
    let mode = LEVELS.into_iter().find(|mode| mode.name() == name);
    let id = mode.map(|_| ff::ID_HAAR);
    let spec = codecs().iter().find(|spec| Some(spec.id) == id || spec.name == name);
    let names = || codecs().iter().map(|spec| spec.name).chain(LEVELS.map(Mode::name)).collect::<Vec<_>>().join(", ");
    let spec =
        spec.ok_or_else(|| usage(format!("--codec {name}: there is none of this name; there are {}", names())))?;
    Ok((spec, mode))
}

/// The rate that is asked for, or the codec's usual one.
pub(super) fn rate(spec: &CodecSpec, asked: Option<u8>) -> Result<u8> {
    let rate = asked.unwrap_or(spec.usual_rate());
    offered(spec, rate).map_err(|message| usage(format!("--rate {rate}: {message}")))?;
    Ok(rate)
}

/// Errors where the codec has no such rate. Of FF every rate is taken, although plans use every second one only.
pub(super) fn offered(spec: &CodecSpec, rate: u8) -> Result<(), String> {
    let name = spec.name;
    match spec.layout {
        Layout::Ff if usize::from(rate) < ff::RATES => Ok(()),
        Layout::Ff => Err(format!("{name} has rates 0 (finest) to {}", ff::RATES - 1)),
        _ if spec.offers(rate) => Ok(()),
        _ if spec.rates.is_empty() => Err(format!("{name} has no rates")),
        _ => Err(format!("{name} has rates {:?}", spec.rates)),
    }
}

/// Errors where one of these options is given and the codec is not FF.
pub(super) fn only_ff(spec: &CodecSpec, options: &[(&str, bool)]) -> Result<()> {
    match options.iter().find(|(_, given)| *given) {
        Some((option, _)) if spec.layout != Layout::Ff => {
            Err(usage(format!("{option} is for ff-s, ff-h and ff-c, not for {}", spec.name)))
        }
        _ => Ok(()),
    }
}

/// The codec without symbols that are chosen: FF-H for FF-C, else itself.
pub(super) fn rounded(spec: &'static CodecSpec) -> &'static CodecSpec {
    let plain = codecs().iter().find(|other| spec.id == ff::ID_CANCELLING && other.id == ff::ID_HAAR);
    plain.unwrap_or(spec)
}

/// How FF encodes: as a host would at this rate, but for what is asked for; none for other codecs. A package that has
/// nothing for the rate is not passed over in silence, as hosts do: the codec refuses.
pub(super) fn settings<'a>(
    spec: &CodecSpec,
    rate: u8,
    mode: Option<Mode>,
    package: Option<&'a CutPackage>,
) -> Option<Settings<'a>> {
    let usual = ff::settings_of(spec.id, rate, None)?;
    let mode = mode.or_else(|| ff::mode_for(spec.id, rate, package)).unwrap_or(usual.mode);
    let package = ff::package_for(spec.id, package);
    Some(Settings { mode, package, ..usual })
}

/// What was calibrated.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PackageArgs {
    /// For FF: the file with what was calibrated for the model [default: none, which needs no data].
    #[arg(long, value_name = "MODEL.ff", help_heading = "FF only")]
    pub(super) package: Option<PathBuf>,
    /// For FF: the cut of the package, by name [default: the only one; when decoding the one that the frame names].
    #[arg(long, value_name = "NAME", requires = "package", help_heading = "FF only")]
    pub(super) cut: Option<String>,
}

impl PackageArgs {
    /// Errors where an output would take the package's place.
    pub(super) fn keep(&self, output: &Path) -> Result<()> {
        self.package.as_deref().map_or(Ok(()), |package| keep_input(package, output))
    }

    /// Whether there are any.
    pub(super) fn option(&self) -> (&'static str, bool) {
        ("--package", self.package.is_some())
    }

    /// The cut to encode with.
    pub(super) fn for_encoding(&self) -> Result<Option<CutPackage>> {
        let Some(path) = &self.package else { return Ok(None) };
        let package = load(path)?;
        match (&self.cut, package.cuts()) {
            (Some(name), _) => named(path, &package, name).map(Some),
            (None, [only]) => Ok(Some(only.clone())),
            (None, _) => Err(usage(format!("say which cut, --cut NAME; {}", cuts(path, &package)))),
        }
    }

    /// The cut to decode a frame with. Where none is named and none fits, there is none, and the codec says what it misses.
    pub(super) fn for_decoding(&self, frame: &Frame) -> Result<Option<CutPackage>> {
        let Some(path) = &self.package else { return Ok(None) };
        let package = load(path)?;
        match &self.cut {
            Some(name) => {
                let cut = named(path, &package, name)?;
                let beside = cut.cancelling().filter(|beside| beside.id() == frame.package).cloned();
                Ok(Some(beside.unwrap_or(cut)))
            }
            None => Ok(package.cut_by_id(frame.package).cloned()),
        }
    }
}

fn load(path: &Path) -> Result<Package> {
    let file = read_file(path, ff::PACKAGE_BYTES_MAX)?;
    Package::from_bytes(&file).with_context(|| format!("{} is not a package of FF", path.display()))
}

fn named(path: &Path, package: &Package, name: &str) -> Result<CutPackage> {
    let cut = package.cut(name).cloned();
    cut.ok_or_else(|| usage(format!("--cut {name}: there is none of this name; {}", cuts(path, package))))
}

fn cuts(path: &Path, package: &Package) -> String {
    let names: Vec<&str> = package.cuts().iter().map(CutPackage::name).collect();
    format!("{} has {}", path.display(), if names.is_empty() { "no cuts".to_owned() } else { names.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_and_every_level_has_its_name() {
        for spec in codecs() {
            let (found, mode) = by_name(spec.name).unwrap();
            assert_eq!((found.id, mode), (spec.id, None));
        }
        let (spec, mode) = by_name("ff-h2").unwrap();
        assert_eq!((spec.name, mode), ("ff-h", Some(Mode::Haar2)));
        let error = by_name("fly").unwrap_err().to_string();
        assert!(error.contains("raw, raw-zstd") && error.ends_with("ff-s, ff-h, ff-c, ff-h1, ff-h2"), "{error}");
    }

    #[test]
    fn rates_are_the_codecs_own() {
        let of = |name: &str, asked| rate(by_name(name).unwrap().0, asked).map_err(|e| e.to_string());
        assert_eq!((of("ff-h", None), of("ff-s", Some(17)), of("f16", None)), (Ok(16), Ok(17), Ok(0)));
        assert_eq!(of("ff-h", Some(32)), Err("--rate 32: ff-h has rates 0 (finest) to 31".to_owned()));
        assert_eq!(of("jpeg", Some(1)), Err("--rate 1: jpeg has rates [50, 75, 90, 95]".to_owned()));
        assert_eq!(of("int8", Some(1)), Err("--rate 1: int8 has no rates".to_owned()));
    }

    #[test]
    fn ff_encodes_as_a_host_would_unless_asked_otherwise() {
        let of = |name: &str| {
            let (spec, mode) = by_name(name).unwrap();
            settings(spec, 12, mode, None).map(|s| (s.mode, s.entropy, s.q))
        };
        assert_eq!(of("ff-s"), Some((Mode::Scalar, Entropy::Pack, 12)));
        assert_eq!(of("ff-h"), Some((Mode::Haar1, Entropy::Rans, 12)));
        assert_eq!(of("ff-h2"), Some((Mode::Haar2, Entropy::Rans, 12)));
        assert_eq!(of("int8"), None);
    }
}
