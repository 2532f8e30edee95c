//! Capacity that an instance still holds although it is gone is given back.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_store::{Page, Store, TenantScope};
use nemordp_types::Failure;

use super::{Outcome, Reconciler};

/// Finds open reservations whose instance is deleted or failed.
#[derive(Debug)]
pub struct ReservationReaper {
    store: Store,
}

impl ReservationReaper {
    /// Over this store.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let (mut open, mut freed) = (0, 0);
        let mut page = Page::first(200);
        loop {
            let reservations = self.store.reservation_list(page).await?;
            for reservation in reservations.items.iter().filter(|reservation| reservation.released_at.is_none()) {
                open += 1;
                let instance = self.store.instance_fetch(TenantScope::All, reservation.instance_id).await?;
                if !instance.lifecycle.is_live() {
                    self.store.order_release(reservation.instance_id).await?;
                    tracing::warn!(instance_id = %reservation.instance_id, "a reservation outlived its instance; given back");
                    freed += 1;
                }
            }
            let Some(next) = reservations.next else { break };
            page = Page::after(next, 200);
        }
        let numbers = self.store.number_reap().await?;
        Ok(format!("{open} open reservations, {freed} given back, {numbers} ports and addresses too").into())
    }
}

impl Reconciler for ReservationReaper {
    fn name(&self) -> &'static str {
        "reservation_reaper"
    }

    fn purpose(&self) -> &'static str {
        "capacity, ports and addresses that an instance still holds although it is gone are given back"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
