//! Which replica runs the reconcilers: the one that holds a lease in the store.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Reconcilers;

/// The lease's name.
pub const ROLE: &str = "reconcilers";
/// How long it is held without a sign of life.
const HOLD: Duration = Duration::from_secs(6);
/// How often it is renewed, or asked for.
const EVERY: Duration = Duration::from_secs(2);

impl Reconcilers {
    /// Takes and keeps the lease; SQLite is one process's alone, which needs none. Passes wishes on while it leads.
    pub(super) async fn lead(&self, leads: watch::Sender<bool>, stop: &CancellationToken) {
        let shared = self.store.is_shared();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut held_until = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let asked_at = Instant::now();
                    if !shared || self.holds().await {
                        held_until = asked_at + HOLD;
                    } else if !*leads.borrow() {
                        held_until = asked_at;
                    }
                    // The store did not answer, or another replica has it: it is ours no longer than it was promised.
                    show(&leads, Instant::now() < held_until);
                }
                () = self.wanted.notified() => {}
                () = stop.cancelled() => break,
            }
            if *leads.borrow() {
                self.grant_wishes().await;
            }
        }
        if shared && *leads.borrow() {
            // Whoever waits takes over at its next look instead of at the lease's end.
            if let Ok(Err(error)) = timeout(EVERY, self.store.role_release(ROLE, &self.owner)).await {
                tracing::debug!(%error, "the lease on the reconcilers ends by itself");
            }
        }
        leads.send_replace(false);
    }

    async fn holds(&self) -> bool {
        match timeout(EVERY, self.store.role_hold(ROLE, &self.owner, HOLD)).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease on the reconcilers was not renewed");
                false
            }
            Err(_) => false,
        }
    }

    async fn grant_wishes(&self) {
        let Ok(wanted) = self.store.reconciler_wanted().await else { return };
        for entry in self.entries.iter().filter(|entry| wanted.iter().any(|name| name == entry.reconciler.name())) {
            entry.poke.notify_one();
        }
    }
}

fn show(leads: &watch::Sender<bool>, leading: bool) {
    let changed = leads.send_if_modified(|before| std::mem::replace(before, leading) != leading);
    if changed {
        tracing::info!(leading, "this replica runs the reconcilers, or runs them no more");
        metrics::gauge!("nemordp_reconciler_leader").set(if leading { 1.0 } else { 0.0 });
    }
}
