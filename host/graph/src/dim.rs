//! Extents that may be known only up to the batch, and the arithmetic on them.
//!
//! One set of shape rules serves both questions: at load time the batch is a symbol, at run time every extent is known.

use std::fmt;

/// One extent of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dim {
    /// A number.
    Known(usize),
    /// This many times the batch; at least once.
    Rows(usize),
    /// Some number that follows from an input's open extent.
    Unknown,
}

/// The extents of a value, outermost first.
pub(crate) type Dims = Vec<Dim>;

/// Most dimensions of anything computed.
pub(crate) const RANK_MAX: usize = 8;

/// Why a shape rule refuses its operands, for people.
pub(crate) type Refusal = String;

impl Dim {
    /// The number, if it is one.
    pub(crate) fn known(self) -> Option<usize> {
        match self {
            Self::Known(n) => Some(n),
            Self::Rows(_) | Self::Unknown => None,
        }
    }

    /// Product.
    pub(crate) fn times(self, other: Self) -> Result<Self, Refusal> {
        let product = |a: usize, b: usize| a.checked_mul(b).ok_or_else(|| format!("{a} x {b} elements are too many"));
        Ok(match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(product(a, b)?),
            (Self::Known(0), _) | (_, Self::Known(0)) => Self::Known(0),
            (Self::Known(a), Self::Rows(b)) | (Self::Rows(a), Self::Known(b)) => Self::Rows(product(a, b)?),
            _ => Self::Unknown,
        })
    }

    /// Quotient, where it is whole for every batch.
    pub(crate) fn over(self, other: Self) -> Result<Self, Refusal> {
        let whole = |a: usize, b: usize| if b != 0 && a.is_multiple_of(b) { Some(a / b) } else { None };
        Ok(match (self, other) {
            (Self::Known(a), Self::Known(b)) | (Self::Rows(a), Self::Rows(b)) => {
                Self::Known(whole(a, b).ok_or_else(|| format!("{self} elements do not divide by {other}"))?)
            }
            (Self::Rows(a), Self::Known(b)) => whole(a, b).map_or(Self::Unknown, Self::Rows),
            _ => Self::Unknown,
        })
    }

    /// Sum.
    pub(crate) fn plus(self, other: Self) -> Result<Self, Refusal> {
        let sum = |a: usize, b: usize| a.checked_add(b).ok_or_else(|| format!("extent {a} + {b} is too large"));
        Ok(match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(sum(a, b)?),
            (Self::Rows(a), Self::Rows(b)) => Self::Rows(sum(a, b)?),
            (Self::Known(0), d) | (d, Self::Known(0)) => d,
            _ => Self::Unknown,
        })
    }

    /// What two extents that have to be equal are; none if they cannot be.
    pub(crate) fn agree(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::Unknown, known) | (known, Self::Unknown) => Some(known),
            _ => None,
        }
    }

    /// What two extents broadcast to; none if they do not.
    pub(crate) fn broadcast(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(1), d) | (d, Self::Known(1)) => Some(d),
            (Self::Unknown, Self::Rows(_)) | (Self::Rows(_), Self::Unknown) => Some(Self::Unknown),
            (a, b) => a.agree(b),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => n.fmt(f),
            Self::Rows(1) => f.write_str("N"),
            Self::Rows(k) => write!(f, "{k}N"),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A shape as people read it: `[N, 3, 224, 224]`.
pub(crate) fn show(dims: &[Dim]) -> String {
    let parts: Vec<String> = dims.iter().map(Dim::to_string).collect();
    format!("[{}]", parts.join(", "))
}

/// Extents that are all known.
pub(crate) fn known(shape: &[usize]) -> Dims {
    shape.iter().copied().map(Dim::Known).collect()
}

/// Product of the extents.
pub(crate) fn count(dims: &[Dim]) -> Result<Dim, Refusal> {
    dims.iter().try_fold(Dim::Known(1), |n, &d| n.times(d))
}

/// The shape that two operands broadcast to, aligned at the innermost dimension.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Dims, Refusal> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(Dim::Known(1), |j| dims[j]);
    (0..rank)
        .map(|i| at(a, i).broadcast(at(b, i)))
        .collect::<Option<Dims>>()
        .ok_or_else(|| format!("shapes {} and {} do not broadcast", show(a), show(b)))
}

#[cfg(test)]
mod tests {
    use super::Dim::{Known, Rows, Unknown};
    use super::*;

    #[test]
    fn products_and_quotients_keep_the_batch() {
        assert_eq!(count(&[Rows(1), Known(3), Known(4)]), Ok(Rows(12)));
        assert_eq!(count(&[Rows(1), Unknown]), Ok(Unknown));
        assert_eq!(Rows(12).over(Rows(1)), Ok(Known(12)));
        assert_eq!(Rows(12).over(Known(4)), Ok(Rows(3)));
        assert_eq!(Rows(3).over(Known(2)), Ok(Unknown), "whole for some batches only");
        assert!(Known(12).over(Known(5)).is_err());
        assert!(count(&[Known(usize::MAX), Known(2)]).is_err());
    }

    #[test]
    fn broadcasting_table() {
        let table: [(&[Dim], &[Dim], Option<&str>); 7] = [
            (&[Known(2), Known(3)], &[Known(3)], Some("[2, 3]")),
            (&[Rows(1), Known(3)], &[Known(1), Known(3)], Some("[N, 3]")),
            (&[Rows(1), Known(1)], &[Known(4), Known(1), Known(5)], Some("[4, N, 5]")),
            (&[Unknown], &[Known(7)], Some("[7]")),
            (&[Unknown], &[Known(1)], Some("[?]")),
            (&[Known(2)], &[Known(3)], None),
            (&[Rows(1)], &[Known(3)], None),
        ];
        for (a, b, expected) in table {
            let got = broadcast(a, b).ok().map(|d| show(&d));
            assert_eq!(got.as_deref(), expected, "{} with {}", show(a), show(b));
        }
    }
}
