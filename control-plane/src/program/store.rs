//! What an operator does to the store itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use nemordp_store::{Restored, Store};
use nemordp_types::{Clock, Entropy, Failure};

use super::say;
use crate::config::Config;
use crate::pki;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Brings the schema up to date.
    Migrate,
    /// Writes a copy of the SQLite store while it is in use; a file that is there is refused.
    Backup {
        /// Where the copy goes.
        file: PathBuf,
    },
    /// Puts a copy in the place of the SQLite store, which nobody may be using.
    Restore {
        /// The copy.
        file: PathBuf,
        /// The store that is there is put aside under another name.
        #[arg(long)]
        replace: bool,
    },
    /// Says that the database was put back by other means, PostgreSQL's own: before any control plane starts on it.
    MarkRestored,
}

impl StoreCommand {
    pub(super) async fn run(
        self,
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(), Failure> {
        let url = config.store_url();
        match self {
            Self::Migrate => {
                pki::private_folder(&config.data_dir)?;
                let store = Store::open(&url, clock, entropy).await?;
                store.migrate().await?;
                store.close().await;
                say("the schema is up to date")
            }
            Self::Backup { file } => backup(&url, &file, clock, entropy).await,
            Self::Restore { file, replace } => {
                pki::private_folder(&config.data_dir)?;
                let replaced = nemordp_store::restore(&url, &file, replace, clock, entropy).await?;
                say(&format!("installation {} is back from {}", replaced.installation_id, file.display()))?;
                if let Some(before) = &replaced.before {
                    say(&format!("the store from before is kept as {}", before.display()))?;
                }
                settle(&replaced.restored)
            }
            Self::MarkRestored => {
                let store = Store::open(&url, clock, entropy).await?;
                store.migrate().await?;
                let restored = store.mark_restored().await?;
                store.close().await;
                settle(&restored)
            }
        }
    }
}

async fn backup(url: &str, file: &Path, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<(), Failure> {
    let database = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
    let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if !postgres && !Path::new(database).is_file() {
        return Err(Failure::field("store", format!("{database} is not there: nothing can be backed up")));
    }
    let store = Store::open(url, clock, entropy).await?;
    let backup = store.backup(file).await?;
    store.close().await;
    say(&format!(
        "{}: {} bytes, installation {}, schema {}; keep seal.key and pki/ca.key with it, but apart from it",
        file.display(),
        backup.bytes,
        backup.installation_id,
        backup.schema
    ))
}

/// What waits for the operator now.
fn settle(restored: &Restored) -> Result<(), Failure> {
    say(&format!(
        "{} instances wait for their node's word, {} nodes are cordoned, {} tickets and {} credentials links are good no \
         more",
        restored.instances, restored.nodes, restored.tickets, restored.links
    ))?;
    say("next: start the control plane, look at `nemordp audit`, settle what it lists, uncordon the nodes")
}
