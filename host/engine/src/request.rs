//! Devices as a user asks for them: `auto`, `cpu`, `cpu:2`, `gpu:0`, `software`, each with `,slowdown=N`.

use std::fmt;
use std::str::FromStr;

/// Most logical parts of the processor.
const SHARES_MAX: u32 = 64;
/// Largest declared slowdown.
const SLOWDOWN_MAX: f32 = 1_000.0;

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedKind {
    /// Every real GPU and the processor.
    Auto,
    /// The processor, in this many logical devices with their own threads.
    Cpu {
        /// At least 1.
        shares: u32,
    },
    /// The GPU with this number, as listed by [`adapters`](crate::adapters).
    Gpu(u32),
    /// The software rasteriser: slow, for tests of kernels.
    Software,
}

/// A device and how much slower than it is it should act.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceRequest {
    /// Which device.
    pub kind: RequestedKind,
    /// The executor sleeps so that a job takes this many times as long; 1 for none. Makes a weak device for test beds.
    pub slowdown: f32,
}

/// A device description that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason} (expected auto, cpu, cpu:N, gpu:N or software, optionally with ,slowdown=N)")]
pub struct ParseDeviceError {
    text: String,
    reason: String,
}

impl FromStr for DeviceRequest {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason: String| ParseDeviceError { text: text.into(), reason };
        let (device, options) = text.split_once(',').map_or((text, None), |(d, o)| (d, Some(o)));
        let (name, number) = device.split_once(':').map_or((device, None), |(n, i)| (n, Some(i)));
        let number = match number {
            None => None,
            Some(n) => Some(n.parse::<u32>().map_err(|_| fail(format!("`{n}` is not a number")))?),
        };
        let kind = match (name, number) {
            ("auto", None) => RequestedKind::Auto,
            ("cpu", None) => RequestedKind::Cpu { shares: 1 },
            ("cpu", Some(shares @ 1..=SHARES_MAX)) => RequestedKind::Cpu { shares },
            ("cpu", Some(_)) => return Err(fail(format!("1 to {SHARES_MAX} shares are possible"))),
            ("gpu", Some(index)) => RequestedKind::Gpu(index),
            ("gpu", None) => RequestedKind::Gpu(0),
            ("software", None) => RequestedKind::Software,
            ("auto" | "software", Some(_)) => return Err(fail(format!("`{name}` has no number"))),
            _ => return Err(fail("unknown device".into())),
        };
        let slowdown = match options {
            None => 1.0,
            Some(option) => {
                let value =
                    option.strip_prefix("slowdown=").ok_or_else(|| fail(format!("unknown option `{option}`")))?;
                let slowdown = value.parse::<f32>().map_err(|_| fail(format!("`{value}` is not a number")))?;
                if !(1.0..=SLOWDOWN_MAX).contains(&slowdown) {
                    return Err(fail(format!("a slowdown is 1 to {SLOWDOWN_MAX}")));
                }
                slowdown
            }
        };
        Ok(Self { kind, slowdown })
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RequestedKind::Auto => write!(f, "auto")?,
            RequestedKind::Cpu { shares: 1 } => write!(f, "cpu")?,
            RequestedKind::Cpu { shares } => write!(f, "cpu:{shares}")?,
            RequestedKind::Gpu(index) => write!(f, "gpu:{index}")?,
            RequestedKind::Software => write!(f, "software")?,
        }
        if self.slowdown == 1.0 { Ok(()) } else { write!(f, ",slowdown={}", self.slowdown) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_requests_round_trip() {
        for text in ["auto", "cpu", "cpu:2", "gpu:0", "gpu:3", "software", "cpu,slowdown=2.5", "cpu:4,slowdown=8"] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
        }
        assert_eq!("gpu".parse::<DeviceRequest>().unwrap().kind, RequestedKind::Gpu(0));
    }

    #[test]
    fn bad_requests_say_why() {
        for (text, reason) in [
            ("", "unknown device"),
            ("tpu", "unknown device"),
            ("cpu:0", "1 to 64 shares"),
            ("cpu:65", "1 to 64 shares"),
            ("gpu:-1", "`-1` is not a number"),
            ("gpu:x", "`x` is not a number"),
            ("software:1", "has no number"),
            ("auto:1", "has no number"),
            ("cpu,slow=2", "unknown option `slow=2`"),
            ("cpu,slowdown=0.5", "a slowdown is 1 to"),
            ("cpu,slowdown=nan", "a slowdown is 1 to"),
            ("cpu,slowdown=inf", "a slowdown is 1 to"),
            ("cpu,slowdown=", "is not a number"),
        ] {
            let error = text.parse::<DeviceRequest>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
