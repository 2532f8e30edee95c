//! What is held for scarce plans.

use clap::Subcommand;
use nemordp_api::{Reserve, ReserveList, SetReserve};
use nemordp_types::{PlanName, RegionName};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row};

/// What can be done with reserves.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists them.
    List,
    /// Keeps so many orders of a plan with GPUs possible in a region: cheaper ones are refused before they take the last of
    /// them.
    Set {
        /// Where.
        #[arg(long)]
        region: RegionName,
        /// Of which plan.
        #[arg(long)]
        plan: PlanName,
        /// How many; 0 lifts it.
        #[arg(long)]
        slots: u32,
    },
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => output.rows(&client.get::<ReserveList>("v1/reserves", &[]).await?.items),
            Self::Set { region, plan, slots } => {
                output.one(&client.post::<Reserve>("v1/reserves", &SetReserve { region, plan, slots }).await?)
            }
        }
    }
}

impl Row for Reserve {
    const HEADS: &'static [&'static str] = &["REGION", "PLAN", "SLOTS", "SET"];

    fn cells(&self) -> Vec<String> {
        vec![self.region.to_string(), self.plan.to_string(), self.slots.to_string(), self.updated_at.to_string()]
    }
}
