//! `[placement]`: where a model may run.

use bps_types::policy::DeviceKind;
use serde::{Deserialize, Serialize};

/// Devices by pattern: `cpu`, `gpu`, `software`, or a device's name, in which `*` stands for any text. Devices of another
/// host are called `HOST/DEVICE`, as in `server/gpu:0`, `server/*` or `*/gpu:*`; `*` alone is every device of every host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// Only these; empty allows all.
    pub allow: Vec<String>,
    /// Never these.
    pub deny: Vec<String>,
    /// Requests never leave this host.
    pub local_only: bool,
}

impl Placement {
    /// Whether a device may run the model.
    pub fn permits(&self, device_name: &str, kind: DeviceKind) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|p| p == kind.name() || fits(p, device_name));
        (self.allow.is_empty() || named(&self.allow)) && !named(&self.deny)
    }

    /// Every pattern that names devices and not a kind of them; a kind that a machine has not is no mistake.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let kinds = DeviceKind::ALL.map(DeviceKind::name);
        self.allow.iter().chain(&self.deny).map(String::as_str).filter(move |p| !kinds.contains(p))
    }
}

/// What a pattern says of hosts: none where it can only mean devices of this one.
pub fn host_part(pattern: &str) -> Option<&str> {
    match pattern.split_once('/') {
        // A device's own name may have a slash, as in `cpu:0/2`, but a colon before it; a host's has neither.
        Some((host, _)) if !host.contains(':') => Some(host),
        // What begins with any text may begin with any host.
        _ => pattern.starts_with('*').then_some("*"),
    }
}

/// Whether `name` has the form of `pattern`, in which `*` stands for any text.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // Each part at the first place where it is leaves most to those after it.
    let place = |rest: &'_ str, part: &str| rest.find(part).map(|at| at + part.len());
    let mut left = rest;
    for part in parts {
        match place(left, part) {
            Some(end) => left = &left[end..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        let cases = [
            ("*", "gpu:0", true),
            ("*", "", true),
            ("*", "server/cpu:0/2", true),
            ("gpu:0", "gpu:0", true),
            ("gpu:0", "gpu:01", false),
            ("gpu:*", "gpu:0", true),
            ("gpu:*", "server/gpu:0", false),
            ("server/*", "server/gpu:0", true),
            ("server/*", "server2/gpu:0", false),
            ("*/gpu:*", "server/gpu:0", true),
            ("*/gpu:*", "gpu:0", false),
            ("cpu:*/2", "cpu:1/2", true),
            ("cpu:*/2", "cpu:1/3", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("é*é", "éxé", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(fits(pattern, name), expected, "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn patterns_are_allowed_and_denied() {
        let of = |allow: &[&str], deny: &[&str]| Placement {
            allow: allow.iter().map(|p| (*p).to_owned()).collect(),
            deny: deny.iter().map(|p| (*p).to_owned()).collect(),
            local_only: false,
        };
        let cases = [
            (of(&[], &["*"]), [false, false, false]),
            (of(&["*"], &[]), [true, true, true]),
            (of(&[], &["server/*"]), [true, true, false]),
            (of(&["server/*"], &[]), [false, false, true]),
            (of(&["gpu"], &["server/gpu:*"]), [false, true, false]),
            (of(&["cpu:*"], &[]), [true, false, false]),
        ];
        for (placement, expected) in cases {
            let devices = [("cpu:0/2", DeviceKind::Cpu), ("gpu:0", DeviceKind::Gpu), ("server/gpu:0", DeviceKind::Gpu)];
            assert_eq!(devices.map(|(name, kind)| placement.permits(name, kind)), expected, "{placement:?}");
        }
    }

    #[test]
    fn who_is_meant() {
        let cases = [
            ("gpu:0", None),
            ("gpu*", None),
            ("cpu:0/2", None),
            ("cpu:*/2", None),
            ("*", Some("*")),
            ("*:0", Some("*")),
            ("server/gpu:0", Some("server")),
            ("ser*/cpu:0/2", Some("ser*")),
        ];
        for (pattern, expected) in cases {
            assert_eq!(host_part(pattern), expected, "{pattern:?}");
        }
        let placement =
            Placement { allow: vec!["gpu".into(), "gpu:*".into()], deny: vec!["cpu".into()], local_only: false };
        assert_eq!(placement.names().collect::<Vec<_>>(), ["gpu:*"]);
    }
}
