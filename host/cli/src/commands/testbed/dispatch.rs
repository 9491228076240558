//! Receipts of a host as the test bed reads them: from another process, perhaps of another version, so that what is absent
//! is tolerated and what is strange is left out.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One executed piece of a dispatch, or stages of other hosts' plans that were executed together. Times are nanoseconds on
/// its host's clock.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Dispatch {
    pub(super) at: u64,
    pub(super) ended: u64,
    /// The hosts whose plans it belongs to; empty: its own.
    #[serde(rename = "for")]
    pub(super) for_hosts: Vec<String>,
    pub(super) trace: Option<String>,
    pub(super) policy: PolicyLabel,
    pub(super) why: String,
    pub(super) model: String,
    pub(super) requests: u32,
    pub(super) rows: u32,
    pub(super) wait: u64,
    pub(super) stages: Vec<Stage>,
    pub(super) bytes: u64,
    pub(super) verdict: Value,
}

/// Who chose it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct PolicyLabel {
    pub(super) name: String,
}

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Stage {
    pub(super) on: String,
    pub(super) from_cut: u32,
    pub(super) until_cut: u32,
    pub(super) via: Option<String>,
    pub(super) rate: u8,
    pub(super) predicted: u64,
    pub(super) measured: Option<u64>,
    pub(super) waited: Option<u64>,
    pub(super) began: Option<u64>,
}

impl Stage {
    /// The other host's name; none: its own.
    pub(super) fn host(&self) -> Option<&str> {
        self.on.split_once('/').map(|(host, _)| host)
    }

    /// The device's name on its host.
    pub(super) fn device(&self) -> &str {
        self.on.split_once('/').map_or(&self.on, |(_, device)| device)
    }
}

impl Dispatch {
    /// Whether its host chose it for requests of its own. What it did for others is in their dispatches.
    pub(super) fn is_own(&self) -> bool {
        self.for_hosts.is_empty()
    }

    /// Whether all its stages were executed.
    pub(super) fn is_done(&self) -> bool {
        self.verdict.as_str() == Some("Done")
    }

    /// The plan in words; equal for equal plans.
    pub(super) fn plan(&self) -> String {
        let stage = |s: &Stage| match &s.via {
            Some(codec) => format!("={codec}=> {}[{}..{}]", s.on, s.from_cut, s.until_cut),
            None => format!("{}[{}..{}]", s.on, s.from_cut, s.until_cut),
        };
        self.stages.iter().map(stage).collect::<Vec<_>>().join(" ")
    }
}

/// The receipts in an answer of the admin interface.
pub(super) fn read(answer: &Value) -> Vec<Dispatch> {
    let list = answer.get("receipts").unwrap_or(answer);
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| Dispatch::deserialize(item).ok()).collect()
}

/// Adds what is newer than what is there; receipts come in the order in which dispatches ended.
pub(super) fn add(kept: &mut Vec<Dispatch>, read: Vec<Dispatch>) {
    let last = kept.last().map_or(0, |d| d.ended);
    kept.extend(read.into_iter().filter(|d| d.ended > last));
}

/// What the dispatches of one run come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Bytes over links per request; none where nothing was dispatched.
    pub(super) bytes_per_request: Option<f64>,
    /// Rows per dispatch.
    pub(super) rows_mean: Option<f64>,
    /// The plan that most requests followed, and their share.
    pub(super) usual_plan: Option<(String, f64)>,
}

/// Adds up dispatches that were done, of the host's own requests.
pub(super) fn totals(dispatches: &[Dispatch]) -> Totals {
    let done: Vec<&Dispatch> = dispatches.iter().filter(|d| d.is_done() && d.is_own()).collect();
    let requests: u64 = done.iter().map(|d| u64::from(d.requests)).sum();
    if requests == 0 {
        return Totals::default();
    }
    let mut plans: BTreeMap<String, u64> = BTreeMap::new();
    for dispatch in &done {
        *plans.entry(dispatch.plan()).or_default() += u64::from(dispatch.requests);
    }
    let usual = plans.into_iter().max_by_key(|(_, requests)| *requests);
    let sum = |of: fn(&Dispatch) -> u64| done.iter().map(|d| of(d)).sum::<u64>() as f64;
    Totals {
        bytes_per_request: Some(sum(|d| d.bytes) / requests as f64),
        rows_mean: Some(sum(|d| u64::from(d.rows)) / done.len() as f64),
        usual_plan: usual.map(|(plan, count)| (plan, count as f64 / requests as f64)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// Device, from cut, until cut, codec, began and measured in milliseconds.
    type StageRow<'a> = (&'a str, u32, u32, Option<&'a str>, u64, u64);

    /// A dispatch of one host, times in milliseconds.
    pub(in super::super) fn dispatch(at: u64, ended: u64, stages: &[StageRow<'_>]) -> Dispatch {
        let stage = |&(on, from_cut, until_cut, via, began, measured): &StageRow<'_>| Stage {
            on: on.into(),
            from_cut,
            until_cut,
            via: via.map(Into::into),
            began: Some(began * 1_000_000),
            measured: Some(measured * 1_000_000),
            ..Stage::default()
        };
        Dispatch {
            at: at * 1_000_000,
            ended: ended * 1_000_000,
            requests: 2,
            rows: 2,
            bytes: if stages.iter().any(|s| s.3.is_some()) { 1_000 } else { 0 },
            stages: stages.iter().map(stage).collect(),
            verdict: "Done".into(),
            ..Dispatch::default()
        }
    }

    #[test]
    fn receipts_of_this_version_and_of_strangers_are_read() {
        let known = json!([{ "at": 5, "ended": 9, "policy": { "name": "bps", "version": "1" }, "why": "w", "model": "m",
            "requests": 1, "rows": 1, "bytes": 7, "verdict": "Done", "new": true,
            "stages": [{ "device": 1, "on": "server/cpu", "from_cut": 0, "until_cut": 3, "via": "int8", "measured": 4 }] }]);
        let read_one = read(&known);
        assert_eq!(
            (read_one[0].policy.name.as_str(), read_one[0].plan().as_str()),
            ("bps", "=int8=> server/cpu[0..3]")
        );
        assert_eq!((read_one[0].stages[0].host(), read_one[0].stages[0].device()), (Some("server"), "cpu"));
        assert!(read_one[0].is_done() && read_one[0].is_own() && read_one[0].trace.is_none());
        let guest = read(&json!([{ "for": ["edge"], "trace": "00-ab-cd-01", "stages": [{ "waited": 5 }] }]));
        assert_eq!((guest[0].is_own(), guest[0].trace.as_deref()), (false, Some("00-ab-cd-01")));
        assert_eq!(guest[0].stages[0].waited, Some(5));
        assert_eq!(read(&json!({ "receipts": [{}] })), [Dispatch::default()]);
        assert!(read(&json!([{ "at": "noon" }])).is_empty() && read(&json!(7)).is_empty());
    }

    #[test]
    fn nothing_is_kept_twice() {
        let at = |ended| dispatch(0, ended, &[]);
        let mut kept = Vec::new();
        add(&mut kept, vec![at(1), at(2)]);
        add(&mut kept, vec![at(1), at(2), at(3)]);
        assert_eq!(kept, [at(1), at(2), at(3)]);
    }

    #[test]
    fn totals_weigh_by_requests() {
        let local = dispatch(0, 5, &[("cpu", 0, 9, None, 0, 5)]);
        let split = dispatch(0, 9, &[("cpu", 0, 4, None, 0, 2), ("server/cpu", 4, 9, Some("int8"), 5, 2)]);
        let failed = Dispatch { verdict: json!({ "Failed": "x" }), ..local.clone() };
        let for_another = Dispatch { for_hosts: vec!["van".into()], requests: 90, bytes: 9_000, ..local.clone() };
        let totals = totals(&[local, split.clone(), for_another, split, failed]);
        assert!((totals.bytes_per_request.unwrap() - 2_000.0 / 6.0).abs() < 1e-9);
        let (plan, share) = totals.usual_plan.unwrap();
        assert_eq!(plan, "cpu[0..4] =int8=> server/cpu[4..9]");
        assert!((share - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(super::totals(&[]), Totals::default());
    }
}
