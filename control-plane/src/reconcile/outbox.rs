//! Events get their place in the order in which they are read, also when nobody reads.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_store::Store;
use nemordp_types::Failure;

use super::{Outcome, Reconciler};

/// Numbers events.
#[derive(Debug)]
pub struct Outbox {
    store: Store,
}

impl Outbox {
    /// Over this store.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let numbered = self.store.event_number().await?;
        let waiting = self.store.event_undelivered().await?;
        metrics::gauge!("nemordp_events_undelivered").set(waiting as f64);
        Ok(format!("{numbered} events numbered, {waiting} wait for a receiver").into())
    }
}

impl Reconciler for Outbox {
    fn name(&self) -> &'static str {
        "outbox"
    }

    fn purpose(&self) -> &'static str {
        "events get their place in the order in which they are read"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
