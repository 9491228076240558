//! What codecs that need no calibration cost at a cut, measured with the same rows: so that a plan weighs all by what was
//! seen, and not FF by that and its rivals by what is assumed.

use super::FfError;
use super::bounded::at_most;
use super::cut::Curve;
use crate::spec;
use serde::{Deserialize, Serialize};

/// Most of a cut: the registry has fewer rates.
const RIVALS_MAX: usize = 64;

/// A codec of the registry at one of its rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rival {
    /// Its number.
    pub codec: u8,
    /// 0 where it has none.
    pub rate: u8,
    /// Bits, errors and loss. Without a loss the errors and what is assumed speak for it.
    pub curve: Curve,
}

/// Those of a cut, as a file has them.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ReadRivals(#[serde(deserialize_with = "at_most::<_, _, RIVALS_MAX>")] pub(super) Vec<Rival>);

/// Errors where one is there twice, is FF, is no codec with that rate, or says what cannot be.
pub(super) fn check(rivals: &[Rival]) -> Result<(), FfError> {
    let no = |message: String| Err(FfError::Calibration { what: "rivals", message });
    if rivals.len() > RIVALS_MAX {
        return no(format!("at most {RIVALS_MAX}"));
    }
    for (at, rival) in rivals.iter().enumerate() {
        let Rival { codec, rate, curve } = rival;
        if !spec(*codec).is_some_and(|spec| spec.layout != crate::Layout::Ff && spec.offers(*rate)) {
            return no(format!("codec {codec} at rate {rate} is none"));
        }
        if rivals[..at].iter().any(|other| (other.codec, other.rate) == (*codec, *rate)) {
            return no(format!("codec {codec} at rate {rate} is there twice"));
        }
        if !curve.is_sound() {
            return no(format!(
                "codec {codec} at rate {rate}: a size, an error or a loss is no number or out of range"
            ));
        }
    }
    Ok(())
}
