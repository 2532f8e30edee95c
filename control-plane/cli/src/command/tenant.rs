//! Tenants.

use clap::Subcommand;
use nemordp_api::Tenant;
use nemordp_types::TenantId;

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};

/// What can be done with tenants.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists them.
    List,
    /// New instances of this tenant lie only on nodes that are kept for it (`node pin`).
    Pin {
        /// Its id.
        id: TenantId,
    },
    /// New instances of this tenant lie on any node that is kept for nobody else.
    Unpin {
        /// Its id.
        id: TenantId,
    },
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => output.rows(&client.list::<Tenant>("v1/tenants", &[], usize::MAX).await?),
            Self::Pin { id } => output.one(&client.post_empty::<Tenant>(&format!("v1/tenants/{id}/pin")).await?),
            Self::Unpin { id } => output.one(&client.post_empty::<Tenant>(&format!("v1/tenants/{id}/unpin")).await?),
        }
    }
}

impl Row for Tenant {
    const HEADS: &'static [&'static str] = &["ID", "NAME", "ON OWN NODES ONLY", "MADE", "DISABLED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            if self.pinned { "yes" } else { "no" }.to_owned(),
            self.created_at.to_string(),
            cell(self.disabled_at),
        ]
    }
}
