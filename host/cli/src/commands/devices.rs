//! `bps devices`: what this machine has to execute models on.

use crate::output::Output;
use crate::table::{self, Table};
use anyhow::Result;
use bps_engine::AdapterInfo;

/// List what this machine can execute models on.
///
/// Every processor and graphics adapter, the word that `--device` takes for it, and why the automatic choice leaves one
/// out. `bps profile MODEL` then says how long a model takes on each.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DevicesArgs {}

/// Lists the adapters.
pub(crate) fn run(out: Output) -> Result<()> {
    out.emit(&bps_engine::adapters(), |adapters| text(adapters))
}

fn text(adapters: &[AdapterInfo]) -> String {
    let mut table = Table::new(&["device", "kind", "name", "backend", "driver", ">memory", "auto"]);
    for adapter in adapters {
        let auto = match (&adapter.not_taken, &adapter.taken_as) {
            (Some(why), _) => format!("no: {why}"),
            (None, Some(_)) => "yes".into(),
            (None, None) => "no".into(),
        };
        table.row([
            adapter.taken_as.clone().unwrap_or_else(|| "-".into()),
            adapter.kind.name().into(),
            adapter.name.clone(),
            adapter.backend.clone(),
            adapter.driver.clone(),
            adapter.memory_bytes.map_or_else(|| "-".into(), table::bytes),
            auto,
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_types::policy::DeviceKind;

    #[test]
    fn why_an_adapter_is_left_out_is_said() {
        let adapter = |taken_as: Option<&str>, not_taken: Option<&str>| AdapterInfo {
            name: "card".into(),
            backend: "vulkan".into(),
            kind: DeviceKind::Gpu,
            driver: "1.0".into(),
            memory_bytes: Some(8 << 30),
            taken_as: taken_as.map(Into::into),
            not_taken: not_taken.map(Into::into),
        };
        let text = text(&[adapter(Some("gpu:0"), None), adapter(None, Some("a second API"))]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("gpu:0") && lines[1].ends_with("8.0 GiB  yes"), "{text}");
        assert!(lines[2].starts_with('-') && lines[2].ends_with("no: a second API"), "{text}");
    }
}
