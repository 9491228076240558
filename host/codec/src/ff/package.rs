//! A model's calibration file.
//!
//! ```text
//! +------------+--------------+------------------------+------------------------+
//! | "BPSFFPK1" | body bytes   | body: postcard of      | CRC32C of all          |
//! | 8 bytes    | u32          | model digest and cuts  | before, u32            |
//! +------------+--------------+------------------------+------------------------+
//! ```
//!
//! The last digit of the first word is the version. Everything is little-endian. From version 2 on there is, behind that in
//! the body, one list more: of each cut a second package for frames whose errors cancel, with the
//! [directions](super::Directions) along which they do, or none. From version 3 on there is another behind it: of each cut
//! what codecs cost that need no calibration, see [`Rival`]. A file has the least version that holds what it
//! says, and all are read.

use super::FfError;
use super::bounded::at_most;
use super::cut::{CutData, CutPackage};
use super::directions::Directions;
use super::rival::{ReadRivals, Rival};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Larger files are not read: what a hostile one can make the loader allocate.
pub const PACKAGE_BYTES_MAX: usize = 64 << 20;
/// Its first word and the length of the body.
const HEAD_BYTES: usize = 12;
/// Most cuts of a file.
const CUTS_MAX: usize = 4_096;
/// All but the version.
const MAGIC: [u8; 7] = *b"BPSFFPK";
/// A digit: 2 with directions, 3 with rivals, too.
const VERSIONS: std::ops::RangeInclusive<u8> = b'1'..=b'3';

/// The packages of a model's cuts.
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    model: [u8; 32],
    cuts: Vec<CutPackage>,
}

#[derive(Serialize, Deserialize)]
struct Body<C> {
    model: [u8; 32],
    cuts: Vec<C>,
}

/// What is read: lists end where they are longer than they may be, since a list of nothing takes a byte in a file and
/// hundreds in memory.
#[derive(Deserialize)]
struct ReadBody {
    model: [u8; 32],
    #[serde(deserialize_with = "at_most::<_, _, CUTS_MAX>")]
    cuts: Vec<CutData>,
}

#[derive(Deserialize)]
struct ReadBeside(#[serde(deserialize_with = "at_most::<_, _, CUTS_MAX>")] Vec<Option<(CutData, Directions)>>);

#[derive(Deserialize)]
struct ReadAllRivals(#[serde(deserialize_with = "at_most::<_, _, CUTS_MAX>")] Vec<ReadRivals>);

impl Package {
    /// Errors where a cut is of another model, or two have the same name.
    pub fn new(model: [u8; 32], cuts: Vec<CutPackage>) -> Result<Self, FfError> {
        let no = |message: String| Err(FfError::Calibration { what: "cuts", message });
        if cuts.len() > CUTS_MAX {
            return no(format!("at most {CUTS_MAX}"));
        }
        for (index, cut) in cuts.iter().enumerate() {
            if *cut.model() != model {
                return no(format!("{} is of another model", cut.name()));
            }
            if cuts[..index].iter().any(|other| other.name() == cut.name()) {
                return no(format!("two are called {}", cut.name()));
            }
        }
        Ok(Self { model, cuts })
    }

    /// SHA-256 of the model file, as the calibrating host stated it.
    pub fn model(&self) -> &[u8; 32] {
        &self.model
    }

    /// In the order of the file.
    pub fn cuts(&self) -> &[CutPackage] {
        &self.cuts
    }

    /// The cut of this name.
    pub fn cut(&self, name: &str) -> Option<&CutPackage> {
        self.cuts.iter().find(|cut| cut.name() == name)
    }

    /// The package that a frame names, see [`package_of`](super::package_of): a cut's, or the one beside it for errors that
    /// cancel.
    pub fn cut_by_id(&self, id: u64) -> Option<&CutPackage> {
        self.cuts.iter().flat_map(|cut| [Some(cut), cut.cancelling()]).flatten().find(|cut| cut.id() == id)
    }

    /// The first eight bytes of the SHA-256 of the file. Errors as [`Package::to_bytes`].
    pub fn id(&self) -> Result<u64, FfError> {
        let hash: [u8; 32] = Sha256::digest(self.to_bytes()?).into();
        Ok(hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first)))
    }

    /// The file. Errors where it would be larger than [`PACKAGE_BYTES_MAX`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FfError> {
        let body = Body { model: self.model, cuts: self.cuts.iter().map(|cut| &*cut.data).collect() };
        let mut body = postcard::to_stdvec(&body).map_err(|e| refuse("body", e.to_string()))?;
        let cancelling: Vec<_> = self.cuts.iter().map(beside).collect();
        let rivals: Vec<&[Rival]> = self.cuts.iter().map(CutPackage::rivals).collect();
        let version = match (cancelling.iter().any(Option::is_some), rivals.iter().any(|list| !list.is_empty())) {
            (_, true) => b'3',
            (true, false) => b'2',
            (false, false) => b'1',
        };
        if version >= b'2' {
            body.extend(postcard::to_stdvec(&cancelling).map_err(|e| refuse("directions", e.to_string()))?);
        }
        if version >= b'3' {
            body.extend(postcard::to_stdvec(&rivals).map_err(|e| refuse("rivals", e.to_string()))?);
        }
        if body.len() + HEAD_BYTES + 4 > PACKAGE_BYTES_MAX {
            return Err(refuse("file", format!("more than {PACKAGE_BYTES_MAX} bytes")));
        }
        let mut file = Vec::with_capacity(HEAD_BYTES + 4 + body.len());
        file.extend(MAGIC);
        file.push(version);
        file.extend((body.len() as u32).to_le_bytes());
        file.extend(body);
        let crc = crc32c::crc32c(&file);
        file.extend(crc.to_le_bytes());
        Ok(file)
    }

    /// Reads a file, which may be hostile. Errors with what is wrong.
    pub fn from_bytes(file: &[u8]) -> Result<Self, FfError> {
        if file.len() > PACKAGE_BYTES_MAX {
            return Err(refuse("file", format!("more than {PACKAGE_BYTES_MAX} bytes")));
        }
        let Some((head, rest)) = file.split_first_chunk::<HEAD_BYTES>() else {
            return Err(refuse("head", format!("{HEAD_BYTES} bytes expected, got {}", file.len())));
        };
        let version = head[7];
        if head[..7] != MAGIC || !VERSIONS.contains(&version) {
            return Err(refuse("head", "not an FF package of version 1 to 3".to_owned()));
        }
        let body_bytes = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some((body, crc)) = rest.split_last_chunk::<4>().filter(|(body, _)| body.len() == body_bytes) else {
            return Err(refuse("head", format!("body of {body_bytes} bytes expected, file has {}", file.len())));
        };
        let (said, real) = (u32::from_le_bytes(*crc), crc32c::crc32c(&file[..file.len() - 4]));
        if said != real {
            return Err(refuse("checksum", format!("{said:08x}, but the bytes have {real:08x}")));
        }
        let (body, mut rest) =
            postcard::take_from_bytes::<ReadBody>(body).map_err(|e| refuse("body", e.to_string()))?;
        let mut cancelling: Vec<Option<(CutData, Directions)>> = Vec::new();
        let of_each = |what, count: usize| match body.cuts.len() {
            cuts if cuts == count => Ok(()),
            cuts => Err(refuse(what, format!("of {count} cuts, not {cuts}"))),
        };
        if version >= b'2' {
            let read = postcard::take_from_bytes::<ReadBeside>(rest);
            (ReadBeside(cancelling), rest) = read.map_err(|e| refuse("directions", e.to_string()))?;
            of_each("directions", cancelling.len())?;
        }
        let mut rivals: Vec<ReadRivals> = Vec::new();
        if version >= b'3' {
            let read = postcard::take_from_bytes::<ReadAllRivals>(rest);
            (ReadAllRivals(rivals), rest) = read.map_err(|e| refuse("rivals", e.to_string()))?;
            of_each("rivals", rivals.len())?;
        }
        if !rest.is_empty() {
            return Err(refuse("body", format!("{} bytes behind the last cut", rest.len())));
        }
        cancelling.resize(body.cuts.len(), None);
        rivals.resize(body.cuts.len(), ReadRivals::default());
        let cut = |((data, cancelling), rivals): ((CutData, Option<(CutData, Directions)>), ReadRivals)| {
            let cut = CutPackage::new(data)?;
            let name = cut.name().to_owned();
            let of = |what, error: FfError| refuse(what, format!("of {name}: {error}"));
            let cut = cut.with_rivals(rivals.0).map_err(|e| of("rivals", e))?;
            let Some((data, directions)) = cancelling else { return Ok(cut) };
            let beside = || cut.with_cancelling(CutPackage::new(data)?.with_directions(directions)?);
            beside().map_err(|e| of("directions", e))
        };
        let cuts: Result<Vec<_>, FfError> = body.cuts.into_iter().zip(cancelling).zip(rivals).map(cut).collect();
        Self::new(body.model, cuts?)
    }
}

/// What the second list holds of a cut.
fn beside(cut: &CutPackage) -> Option<(&CutData, &Directions)> {
    cut.cancelling().and_then(|other| Some((&*other.data, other.directions()?)))
}

fn refuse(what: &'static str, message: String) -> FfError {
    FfError::Calibration { what, message }
}
