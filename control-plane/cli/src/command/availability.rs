//! What can be had where.

use nemordp_api::{Availability, AvailabilityList};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Error> {
    let list: AvailabilityList = client.get("v1/availability", &[]).await?;
    output.rows(&list.items)
}

impl Row for Availability {
    const HEADS: &'static [&'static str] = &["REGION", "PLAN", "AVAILABLE", "MORE"];

    fn cells(&self) -> Vec<String> {
        let available = if self.available { "yes" } else { "no" };
        vec![self.region.to_string(), self.plan.to_string(), available.to_owned(), self.more.to_string()]
    }
}
