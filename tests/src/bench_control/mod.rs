//! `make bench-control`: what the control plane does on this machine, measured with the real programs and simulated hosts.
//! Every load is bounded in time; everything runs on loopback.

mod adoption;
mod fleet;
mod listing;
mod load;
mod memory;
mod orders;
mod process;
mod table;

use std::path::PathBuf;
use std::time::Duration;

pub use table::Table;

use crate::cluster::{Result, Shape, StoreKind};

/// What is measured, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the programs lie; beside this one when absent. They should be release builds.
    pub programs: Option<PathBuf>,
    /// Of each steady load.
    pub seconds: u64,
    /// Instances at rest while memory is measured.
    pub instances: usize,
    /// Instances that are listed.
    pub listed: usize,
    /// Agents that are connected.
    pub agents: usize,
}

impl Plan {
    fn shape(&self, store: StoreKind, replicas: u8, nodes: u8) -> Shape {
        Shape {
            programs: self.programs.clone(),
            boot: Duration::ZERO,
            clone: Duration::ZERO,
            durable: true,
            heartbeat_seconds: 10,
            vcpu: 20_000,
            lease: Duration::from_secs(6),
            at_once: 256,
            ..Shape::quick(store, replicas, nodes)
        }
    }
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Orders per second.
    Orders,
    /// Time to adoption.
    Adoption,
    /// Memory.
    Memory,
    /// Listing.
    Listing,
    /// Connected agents.
    Fleet,
}

impl Part {
    /// All, in their order.
    pub const ALL: &[Self] = &[Self::Orders, Self::Adoption, Self::Memory, Self::Listing, Self::Fleet];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Adoption => "adoption",
            Self::Memory => "memory",
            Self::Listing => "listing",
            Self::Fleet => "fleet",
        }
    }
}

/// Measures one part.
///
/// # Errors
/// Something did not start or answer.
pub async fn measure(part: Part, plan: &Plan, table: &mut Table) -> Result<()> {
    match part {
        Part::Orders => {
            orders::measure(plan, StoreKind::Sqlite, 1, table).await?;
            orders::measure(plan, StoreKind::Postgres, 1, table).await?;
            orders::measure(plan, StoreKind::Postgres, 3, table).await
        }
        Part::Adoption => adoption::measure(plan, table).await,
        Part::Memory => memory::measure(plan, table).await,
        Part::Listing => listing::measure(plan, table).await,
        Part::Fleet => fleet::measure(plan, table).await,
    }
}
