//! Which pictures there are.

use crate::{scans, shapes};
use std::fmt;
use std::str::FromStr;

/// Classes of every set.
pub const CLASSES: usize = 10;
/// Lines, and pixels of a line, that pictures can have.
pub const SIDES: [usize; 2] = [32, 64];
/// The seed of the pictures that models are judged on: one set of them for all models, whatever they were trained with.
const JUDGES: u64 = 0;

/// A kind of picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Set {
    /// Handwritten digits in gray: the real scans, enlarged, turned, bent and photographed.
    Digits,
    /// Figures of ten forms in colour, before clutter and behind strokes.
    Shapes,
}

/// What pictures are for. No two splits have a picture, or a scan that a picture is made from, in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Learning.
    Train,
    /// Tables that follow from data.
    Calibration,
    /// Choosing: what is lost by one choice or another.
    Validation,
    /// Judging.
    Test,
    /// Judging under other conditions than those learned under: less light, other tints, blur, more noise.
    Shifted,
}

/// A picture and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Line by line, the channels of a pixel one after another.
    pub pixels: Vec<u8>,
    /// `0 .. CLASSES`.
    pub label: u8,
    /// What it was made from. Pictures of one origin resemble each other: they are not independent witnesses.
    pub origin: u64,
}

/// The first `count` pictures that everybody judges on, or with other splits learns or calibrates from. `side` is one of
/// [`SIDES`]. They are drawn as the iterator goes: a tenth of a millisecond each at 32 pixels.
pub fn rows(set: Set, split: Split, side: usize, count: usize) -> impl ExactSizeIterator<Item = Picture> {
    (0..count).map(move |index| set.picture(split, side, JUDGES, index as u64))
}

impl Set {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Digits, Self::Shapes];

    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Shapes => "shapes",
        }
    }

    /// Bytes of a pixel: 1 is gray, 3 is red, green and blue.
    pub fn channels(self) -> usize {
        match self {
            Self::Digits => 1,
            Self::Shapes => 3,
        }
    }

    /// Picture `index` of a split; each seed has its own, and each size the same scene again.
    pub fn picture(self, split: Split, side: usize, seed: u64, index: u64) -> Picture {
        match self {
            Self::Digits => scans::picture(split, side, seed, index),
            Self::Shapes => shapes::picture(split, side, seed, index),
        }
    }
}

impl Split {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Train, Self::Calibration, Self::Validation, Self::Test, Self::Shifted];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Calibration => "calibration",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Shifted => "shifted",
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No set has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseSetError(String);

impl fmt::Display for ParseSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no set `{}`; there are {}", self.0, Set::ALL.map(Set::name).join(", "))
    }
}

impl std::error::Error for ParseSetError {}

impl FromStr for Set {
    type Err = ParseSetError;

    fn from_str(name: &str) -> Result<Self, ParseSetError> {
        Self::ALL.into_iter().find(|set| set.name() == name).ok_or_else(|| ParseSetError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
