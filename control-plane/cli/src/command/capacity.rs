//! How many more of each plan each region takes.

use nemordp_api::{Capacity, CapacityList};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Error> {
    let list: CapacityList = client.get("v1/capacity", &[]).await?;
    output.rows(&list.items)
}

impl Row for Capacity {
    const HEADS: &'static [&'static str] = &["REGION", "PLAN", "MORE"];

    fn cells(&self) -> Vec<String> {
        vec![self.region.to_string(), self.plan.to_string(), self.more.to_string()]
    }
}
