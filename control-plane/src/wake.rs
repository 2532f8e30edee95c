//! Replicas wake each other: a hint that something was stored. The store is the truth, and is looked at anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nemordp_store::{Store, Wake};
use nemordp_types::Failure;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::reconcile::Reconcilers;
use crate::saga::Engine;

/// Many orders at once are told once.
const GATHER: Duration = Duration::from_millis(20);
/// How long a replica leaves what another one stored to that one. Its own hint reached it first; who looks at once mostly finds
/// nothing, after a transaction.
const TELLER_FIRST: Duration = Duration::from_millis(100);
/// Between two tries to listen.
const PAUSE: Duration = Duration::from_secs(2);

/// Who takes hints.
pub(crate) struct Hints {
    /// Where they come from.
    pub(crate) store: Store,
    /// Who looks for sagas.
    pub(crate) engine: Engine,
    /// Who looks for wishes.
    pub(crate) reconcilers: Reconcilers,
}

/// Tells the others whenever this replica stored a saga.
pub(crate) async fn tell(store: Store, announce: Arc<Notify>, stop: CancellationToken) -> Result<(), Failure> {
    if !store.is_shared() {
        stop.cancelled().await;
        return Ok(());
    }
    loop {
        tokio::select! {
            () = announce.notified() => {}
            () = stop.cancelled() => return Ok(()),
        }
        sleep(GATHER).await;
        if let Err(error) = store.wake(Wake::Saga).await {
            tracing::debug!(%error, "other replicas find the work a little later");
        }
    }
}

/// Passes on what other replicas tell.
pub(crate) async fn follow(hints: Hints, stop: CancellationToken) -> Result<(), Failure> {
    if !hints.store.is_shared() {
        stop.cancelled().await;
        return Ok(());
    }
    loop {
        tokio::select! {
            () = listen(&hints) => {}
            () = stop.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Until the connection is lost for good.
async fn listen(hints: &Hints) {
    let mut wakes = match hints.store.wakes().await {
        Ok(wakes) => wakes,
        Err(error) => return tracing::debug!(%error, "no hints of other replicas"),
    };
    let waiting = Arc::new(AtomicBool::new(false));
    loop {
        match wakes.next().await {
            Ok(Wake::Saga) => poke_later(&hints.engine, &waiting),
            Ok(Wake::Reconciler) => hints.reconcilers.look_for_wishes(),
            Ok(Wake::All) => {
                hints.engine.poke();
                hints.reconcilers.look_for_wishes();
            }
            Err(error) => return tracing::debug!(%error, "hints of other replicas are lost"),
        }
    }
}

/// Pokes after a while, unless that is under way already.
fn poke_later(engine: &Engine, waiting: &Arc<AtomicBool>) {
    if waiting.swap(true, Ordering::AcqRel) {
        return;
    }
    let (engine, waiting) = (engine.clone(), Arc::clone(waiting));
    tokio::spawn(async move {
        sleep(TELLER_FIRST).await;
        waiting.store(false, Ordering::Release);
        engine.poke();
    });
}
