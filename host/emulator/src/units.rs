//! Rates, spans and shares as people write them.

use bps_types::Nanos;

/// Text that is no such quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct UnitError {
    text: String,
    wanted: &'static str,
}

const RATE: &str = "a rate, like 10Mbit, 500kbit, 1Gbit or unlimited";
const SPAN: &str = "a span, like 20ms, 500us or 5s";
const SHARE: &str = "a share, like 1% or 0.01";

/// Bits per second; none for `unlimited`. `10Mbit`, `10Mbit/s` and `10Mbps` mean the same.
pub fn rate(text: &str) -> Result<Option<f64>, UnitError> {
    let wrong = || UnitError { text: text.to_owned(), wanted: RATE };
    if text == "unlimited" {
        return Ok(None);
    }
    let bare = ["/s", "ps"].iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text);
    let (number, factor) = [("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3), ("Gb", 1e9), ("Mb", 1e6), ("kb", 1e3)]
        .iter()
        .find_map(|(unit, factor)| Some((bare.strip_suffix(unit)?, factor)))
        .ok_or_else(wrong)?;
    let bits: f64 = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    // Slower than a modem of 1962 is a typing error, and so is faster than any cable.
    if (300.0..=1e12).contains(&bits) { Ok(Some(bits)) } else { Err(wrong()) }
}

/// A rate for people.
pub fn rate_text(bits_per_second: Option<f64>) -> String {
    match bits_per_second {
        None => "unlimited".into(),
        Some(b) if b >= 1e9 => format!("{} Gbit/s", b / 1e9),
        Some(b) if b >= 1e6 => format!("{} Mbit/s", b / 1e6),
        Some(b) => format!("{} kbit/s", b / 1e3),
    }
}

/// A span of at most a day.
pub fn span(text: &str) -> Result<Nanos, UnitError> {
    let wrong = || UnitError { text: text.to_owned(), wanted: SPAN };
    let (number, factor) = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .ok_or_else(wrong)?;
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    if (0.0..=86_400.0).contains(&seconds) { Ok(Nanos((seconds * 1e9).round() as u64)) } else { Err(wrong()) }
}

/// A share from 0 to 1.
pub fn share(text: &str) -> Result<f64, UnitError> {
    let wrong = || UnitError { text: text.to_owned(), wanted: SHARE };
    let (number, factor) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim(), 0.01),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_that_are_understood() {
        let rates = [("10Mbit", 1e7), ("0.5Mbit/s", 5e5), ("200kbit", 2e5), ("1Gbps", 1e9), ("25 Mbit/s", 2.5e7)];
        for (text, bits) in rates {
            assert_eq!(rate(text), Ok(Some(bits)), "{text}");
        }
        assert_eq!(rate("unlimited"), Ok(None));
        for (text, nanos) in [("20ms", 20_000_000), ("1.5s", 1_500_000_000), ("500us", 500_000), ("0s", 0)] {
            assert_eq!(span(text), Ok(Nanos(nanos)), "{text}");
        }
        assert_eq!((share("1%"), share("0.25"), share("0%")), (Ok(0.01), Ok(0.25), Ok(0.0)));
        assert_eq!(
            [Some(1e7), Some(2.5e9), Some(3e5), None].map(rate_text),
            ["10 Mbit/s", "2.5 Gbit/s", "300 kbit/s", "unlimited"]
        );
    }

    #[test]
    fn what_is_no_quantity_is_named() {
        for text in ["", "10", "Mbit", "-1Mbit", "NaNMbit", "1Tbit", "0kbit", "9999Gbit"] {
            assert!(rate(text).unwrap_err().to_string().contains(&format!("{text:?}")), "{text}");
        }
        for text in ["", "5", "ms", "-1s", "infs", "100000s"] {
            assert!(span(text).is_err(), "{text}");
        }
        for text in ["", "101%", "-0.1", "x", "NaN"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
