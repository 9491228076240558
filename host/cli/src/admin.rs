//! Talking to a running host's admin interface, and finding it.

use crate::client::{Client, Endpoint};
use crate::state;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Where `bps serve` listens for its administrator unless told otherwise.
pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:8001";

/// Where the running host is and how to be let in. Taken before and after a subcommand.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AdminArgs {
    /// Admin address of the running host: HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADMIN, env = "BPS_ADMIN", global = true)]
    pub(crate) admin: Endpoint,
    /// File with the admin token [default: the one that `bps serve` keeps in its state folder].
    #[arg(long, value_name = "FILE", env = "BPS_ADMIN_TOKEN_FILE", global = true)]
    pub(crate) admin_token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// A client that knows the token.
    pub(crate) fn client(&self) -> Result<Client> {
        let token = match &self.admin_token_file {
            Some(path) => Some(state::read_token(path)?),
            None => match state::default_token_file().filter(|p| p.exists()) {
                Some(path) => Some(state::read_token(&path).context("the admin token could not be read")?),
                None => None,
            },
        };
        Client::new(self.admin.clone(), token.as_deref())
    }
}
