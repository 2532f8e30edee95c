//! Certificates that our CA issued, and refusing them before their end.

use std::sync::Arc;

use clap::Subcommand;
use nemordp_store::Store;
use nemordp_types::{Clock, Entropy, Failure};

use super::say;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum CertificateCommand {
    /// Lists those that have not expired: serial number, role, node, end.
    List,
    /// Refuses one from now on, here and on every node that hears of it.
    Revoke {
        /// Its serial number, in hex.
        serial: String,
    },
}

impl CertificateCommand {
    pub(super) async fn run(
        self,
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(), Failure> {
        let store = Store::open(&config.store_url(), clock, entropy).await?;
        store.migrate().await?;
        let outcome = match self {
            Self::List => list(&store).await,
            Self::Revoke { serial } => revoke(&store, &serial).await,
        };
        store.close().await;
        outcome
    }
}

async fn list(store: &Store) -> Result<(), Failure> {
    for known in store.certificate_list().await? {
        let node = known.node_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let revoked = known.revoked_at.map(|at| format!(" revoked {at}")).unwrap_or_default();
        say(&format!("{} {} {node} until {}{revoked}", hex::encode(&known.serial), known.role, known.not_after))?;
    }
    Ok(())
}

async fn revoke(store: &Store, serial: &str) -> Result<(), Failure> {
    let bytes = hex::decode(serial).map_err(|_| Failure::field("serial", "use hex, as `certificate list` shows it"))?;
    let number = store.certificate_revoke(&bytes).await?;
    say(&format!("revoked: list {number}, in force here within seconds, on nodes with their next heartbeat"))
}
