//! Placement patterns that match no device. They are said in the log: a `deny` that denies nothing protects nothing.

use bps_graph::manifest::{Placement, fits, host_part};

/// Another host as far as patterns are concerned: what it is called here, and its devices once it has told them.
pub(crate) struct Other {
    pub(crate) name: String,
    pub(crate) devices: Option<Vec<String>>,
}

impl Other {
    /// Whether the pattern matches one of its devices, or may do so for all that is known.
    fn may_match(&self, pattern: &str) -> bool {
        match &self.devices {
            Some(devices) => devices.iter().any(|device| fits(pattern, &format!("{}/{device}", self.name))),
            None => host_part(pattern).is_some_and(|host| fits(host, &self.name)),
        }
    }
}

/// The patterns that match none of this host's devices. Those that could mean another host are left out where it `meets`
/// others: see [`unmatched_anywhere`].
pub(super) fn unmatched_here<'a>(placement: &'a Placement, own: &[&str], meets: bool) -> Vec<&'a str> {
    let here = placement.names().filter(|p| own.iter().all(|name| !fits(p, name)));
    here.filter(|p| !meets || host_part(p).is_none()).collect()
}

/// The patterns that could mean another host and match no device, of this host or of the paired ones.
pub(crate) fn unmatched_anywhere<'a>(placement: &'a Placement, own: &[&str], others: &[Other]) -> Vec<&'a str> {
    let foreign = placement.names().filter(|p| host_part(p).is_some());
    foreign.filter(|p| own.iter().all(|name| !fits(p, name)) && !others.iter().any(|o| o.may_match(p))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deny(patterns: &[&str]) -> Placement {
        Placement { deny: patterns.iter().map(|p| (*p).to_owned()).collect(), ..Placement::default() }
    }

    #[test]
    fn what_matches_nothing_is_found() {
        let own = ["cpu:0/2", "cpu:1/2"];
        let all = ["*", "gpu", "gpu:0", "cpu:*", "cpu:*/3", "server/*"];
        assert_eq!(unmatched_here(&deny(&all), &own, false), ["gpu:0", "cpu:*/3", "server/*"]);
        assert_eq!(unmatched_here(&deny(&all), &own, true), ["gpu:0", "cpu:*/3"]);
    }

    #[test]
    fn a_host_that_has_not_told_its_devices_may_have_any() {
        let own = ["cpu"];
        let other = |devices: Option<&[&str]>| {
            let devices = devices.map(|list| list.iter().map(|d| (*d).to_owned()).collect());
            [Other { name: "server".into(), devices }]
        };
        let asked = deny(&["*", "gpu:0", "server/*", "server/gpu:0", "sever/gpu:0", "*/gpu:*", "*:9"]);
        let cases: [(&[Other], &[&str]); 3] = [
            (&[], &["server/*", "server/gpu:0", "sever/gpu:0", "*/gpu:*", "*:9"]),
            (&other(None), &["sever/gpu:0"]),
            (&other(Some(&["cpu", "gpu:1"])), &["server/gpu:0", "sever/gpu:0", "*:9"]),
        ];
        for (others, expected) in cases {
            assert_eq!(unmatched_anywhere(&asked, &own, others), expected);
        }
    }
}
