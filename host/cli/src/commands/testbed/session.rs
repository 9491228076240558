//! A running test bed: hosts that are paired, and what is asked of them. Hosts live as long as the slow-down they declare;
//! links, models and policies change under way.

use super::host::{HostProcess, HostSpec};
use super::load::{Content, Described, Questions};
use super::network::Network;
use super::plan::Contender;
use super::trust;
use anyhow::{Context, Result, bail};
use bps_data::Set;
use hyper::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long paired hosts may take to find each other.
const MEET_TIMEOUT: Duration = Duration::from_secs(30);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How hosts are started.
#[derive(Clone, Debug)]
pub(super) struct HostPlan {
    /// Their names, the server last.
    pub(super) names: Vec<&'static str>,
    /// Where their state folders go.
    pub(super) folder: PathBuf,
    /// The weak hosts' device, without its slow-down.
    pub(super) device: String,
    /// The server's device.
    pub(super) server_device: String,
    /// The policy that the server joins arrived stages by.
    pub(super) server_policy: String,
    /// A folder of policy components.
    pub(super) policies: Option<PathBuf>,
    /// `--carrier`.
    pub(super) carrier: String,
    /// `--max-accuracy-loss`.
    pub(super) max_accuracy_loss: f64,
    /// The folder of models.
    pub(super) models: PathBuf,
    /// Model files beside it.
    pub(super) files: Vec<PathBuf>,
    /// Those of the weak hosts alone.
    pub(super) variants: Vec<PathBuf>,
    /// What is sent to models that are files, where they take such pictures.
    pub(super) data: Option<Set>,
}

/// Hosts at work.
pub(super) struct Session {
    /// Between them.
    pub(super) network: Arc<Network>,
    /// The weak ones: requests come to them.
    pub(super) edges: Vec<HostProcess>,
    /// The strong one.
    pub(super) server: HostProcess,
}

impl Session {
    /// Pairs and starts hosts, and waits until they have met.
    pub(super) async fn start(plan: &HostPlan, network: &Arc<Network>, slowdown: f64) -> Result<Self> {
        let folder = plan.folder.join(format!("slowdown-{slowdown}"));
        let last = plan.names.len() - 1;
        let spec = |number: usize| HostSpec {
            name: plan.names[number].to_owned(),
            folder: folder.join(plan.names[number]),
            site: network.sites[number].clone(),
            ports: network.ports[number],
            device: match number {
                n if n == last => plan.server_device.clone(),
                _ => format!("{},slowdown={slowdown}", plan.device),
            },
            policy: if number == last { plan.server_policy.clone() } else { "local-only".into() },
            policies: plan.policies.clone(),
            carrier: plan.carrier.clone(),
            max_accuracy_loss: plan.max_accuracy_loss,
            models: plan.models.clone(),
            files: if number == last { plan.files.clone() } else { [&plan.files[..], &plan.variants].concat() },
        };
        let specs: Vec<HostSpec> = (0..=last).map(spec).collect();
        for weak in 0..last {
            let (guest, waits) = (specs[weak].clone(), specs[last].clone());
            let reached_at = network.server_address(weak);
            tokio::task::spawn_blocking(move || trust::pair(&guest, &waits, reached_at)).await??;
        }
        // One after the other: each measures its models, and on a small machine they would disturb each other.
        let mut hosts = Vec::with_capacity(specs.len());
        for spec in specs {
            hosts.push(HostProcess::start(spec).await?);
        }
        let server = hosts.pop().context("a test bed has a server")?;
        let session = Self { network: Arc::clone(network), edges: hosts, server };
        session.meet().await?;
        Ok(session)
    }

    /// Waits until every weak host can use the server.
    pub(super) async fn meet(&self) -> Result<()> {
        let begun = Instant::now();
        for edge in &self.edges {
            loop {
                let peers = edge.ask("/v1/peers").await?;
                if server_of(&peers, &self.server.spec.name).is_some_and(|p| p["usable"] == true) {
                    break;
                }
                if begun.elapsed() > MEET_TIMEOUT {
                    let (edge_log, server_log) = (edge.log_tail(), self.server.log_tail());
                    bail!(
                        "host {} cannot use host {} after {} s; it says of its peers: {peers}\nits log:\n{edge_log}\nthe server's log:\n{server_log}",
                        edge.spec.name,
                        self.server.spec.name,
                        MEET_TIMEOUT.as_secs(),
                    );
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Starts the server again where it does not live, and waits until the hosts have met.
    pub(super) async fn heal(&mut self) -> Result<()> {
        if !self.server.is_alive() {
            self.server.restart().await?;
        }
        self.meet().await
    }

    /// Names of the policies that the first weak host has.
    pub(super) async fn policies(&self) -> Result<Vec<String>> {
        let answer = self.edges[0].ask("/v1/policies").await?;
        let list = answer.get("policies").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
        let usable = list.iter().filter(|p| p["state"] != "rejected");
        let mut names: Vec<String> = usable.filter_map(|p| p["name"].as_str().map(str::to_owned)).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Makes a policy decide on every weak host, as if it had just come; gives the longest pause, microseconds.
    pub(super) async fn swap(&self, contender: &Contender, seed: u64) -> Result<Option<f64>> {
        let config: Value = match contender.config.as_str() {
            "" => json!({}),
            text => serde_json::from_str(text)?,
        };
        let mut body = json!({ "policy": contender.policy, "seed": seed, "carry_state": false });
        if !contender.config.is_empty() {
            body["config"] = config;
        }
        let mut pause = None;
        for edge in &self.edges {
            let report = edge.admin.json(Method::POST, "/v1/policy/swap", Some(&body)).await;
            let report = report.with_context(|| format!("swapping to {}", contender.label))?;
            pause = pause.max(report["pause_us"].as_f64().map(|us| us.to_bits()));
        }
        // Bits of numbers that are not negative are in their order.
        Ok(pause.map(f64::from_bits))
    }

    /// What can be asked of a model, by the name that it is served under.
    pub(super) async fn questions(
        &self,
        model: &str,
        content: Content,
        deadline: Option<Duration>,
    ) -> Result<Questions> {
        // Its port for clients is in its namespace: asked from there.
        let edge = &self.edges[0].spec;
        let (site, address, path) =
            (edge.site.clone(), edge.ports.client, crate::infer_wire::metadata_path(model, None));
        let described = tokio::task::spawn_blocking(move || {
            site.within(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let client = client(address)?;
                let metadata = runtime.block_on(client.json(Method::GET, &path, None))?;
                let config = runtime.block_on(client.json(Method::GET, &format!("{path}/config"), None))?;
                anyhow::Ok(Described::new(metadata, &config))
            })
        });
        let described = described.await?.with_context(|| format!("asking for model {model}"))?;
        Questions::for_model(model, content, &described, deadline)
    }
}

/// A client of a host's port for clients.
pub(super) fn client(address: std::net::SocketAddr) -> Result<crate::client::Client> {
    crate::client::Client::new(crate::client::Endpoint::Http(format!("http://{address}")), None)
}

fn server_of<'a>(peers: &'a Value, name: &str) -> Option<&'a Value> {
    let list = peers.get("peers").unwrap_or(peers).as_array()?;
    list.iter().find(|p| p["name"] == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_found_among_peers() {
        let peers = json!([{ "name": "x" }, { "name": "server", "usable": true }]);
        assert_eq!(server_of(&peers, "server").unwrap()["usable"], true);
        assert!(server_of(&peers, "edge").is_none() && server_of(&json!({}), "x").is_none());
    }
}
