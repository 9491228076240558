//! An emulated link as it is written on the command line.

use bps_emulator::{Conditions, Loss};
use bps_types::Nanos;
use serde::Serialize;
use std::str::FromStr;

/// A link as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct LinkChoice {
    /// Bits per second; none: as fast as the machine.
    pub(crate) rate: Option<f64>,
    /// Round trip, nanoseconds.
    pub(crate) rtt: Nanos,
    /// Share of packets lost, each by itself.
    pub(crate) loss: f64,
}

impl FromStr for LinkChoice {
    type Err = String;

    /// `RATE/RTT` or `RATE/RTT/LOSS`.
    fn from_str(text: &str) -> Result<Self, String> {
        // `10Mbit/s/20ms` is what people write too.
        let parts = text.replace("bit/s", "bit");
        let parts: Vec<&str> = parts.split('/').collect();
        let (rate, rtt, loss) = match parts.as_slice() {
            [rate, rtt] => (*rate, *rtt, "0%"),
            [rate, rtt, loss] => (*rate, *rtt, *loss),
            _ => return Err(format!("{text:?} is no link; write RATE/RTT, as in 10Mbit/20ms, or RATE/RTT/LOSS")),
        };
        let lost = bps_emulator::share(loss).map_err(|e| e.to_string())?;
        if lost >= 1.0 {
            return Err(format!("{text:?}: loss must be below 100%, else nothing arrives"));
        }
        Ok(Self {
            rate: bps_emulator::rate(rate).map_err(|e| e.to_string())?,
            rtt: bps_emulator::span(rtt).map_err(|e| e.to_string())?,
            loss: lost,
        })
    }
}

impl LinkChoice {
    /// As the emulator takes it.
    pub(crate) fn conditions(&self) -> Conditions {
        let loss = if self.loss > 0.0 { Loss::Random(self.loss) } else { Loss::None };
        Conditions { loss, ..Conditions::link(self.rate, self.rtt) }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let loss = if self.loss > 0.0 { format!(", {} % lost", self.loss * 100.0) } else { String::new() };
        format!("{}, rtt {} ms{loss}", bps_emulator::rate_text(self.rate), self.rtt.as_millis_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let parse = |text: &str| text.parse::<LinkChoice>();
        let link = parse("10Mbit/20ms").unwrap();
        assert_eq!((link.rate, link.rtt, link.loss), (Some(1e7), Nanos::from_millis(20), 0.0));
        assert_eq!(parse("10Mbit/s/20ms").unwrap(), link);
        let lossy = parse("100Mbit/40ms/1%").unwrap();
        assert_eq!(
            (lossy.conditions().loss, lossy.text().as_str()),
            (Loss::Random(0.01), "100 Mbit/s, rtt 40 ms, 1 % lost")
        );
        for wrong in
            ["", "10Mbit", "10/20ms", "10Mbit/20", "10Mbit/20ms/2", "10Mbit/20ms/100%", "10Mbit/20ms/1", "a/b/c/d"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
