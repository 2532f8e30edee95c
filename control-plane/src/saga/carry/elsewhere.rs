//! Elsewhere: what was made on this node is undone, and the saga begins again on another.

use std::collections::BTreeSet;

use nemordp_model::{GroupKey, Instance, PlacementRequest, StepState, explain};
use nemordp_store::{Decision, Hold, NewPlace, StoreError, TenantScope};
use nemordp_types::{Failure, NodeId, Reason, RegionName, ReservationId};
use tracing::Instrument as _;

use super::{Carried, Carrier, Left, Rest, trace};
use crate::saga::retry::{Next, StepFailure, after_failed_undo};
use crate::saga::state::Leaving;

/// Placements of one order anew, while others are quicker.
const PLACEMENTS_MAX: u32 = 8;

impl Carrier<'_> {
    /// Decides to leave this node. The decision is stored before anything is removed: who carries on after a crash must
    /// not try it here again, since the node refuses what it was told to remove.
    pub(super) async fn leave(&mut self, failure: Failure) -> Carried {
        let Some(instance_id) = self.saga.instance_id else { return self.turn_back(failure).await };
        let node = self.tools.store.instance_fetch(TenantScope::All, instance_id).await?.node_id;
        self.state.undo(0, self.tools.clock.as_ref(), self.tools.entropy.as_ref());
        self.state.leaving = Some(Leaving { node, failure });
        self.state.tries = 0;
        self.write(Hold::Keep(self.lease_for), &[]).await?;
        Ok(None)
    }

    /// Undoes what was made on the node that is left, and begins on another; without another, everything back.
    pub(super) async fn move_on(&mut self, Leaving { node, failure }: Leaving) -> Carried {
        let Some(instance_id) = self.saga.instance_id else { return self.turn_back(failure).await };
        // A crash right after the placement left the instance on its new node already; there is nothing to remove there.
        let here = self.tools.store.instance_fetch(TenantScope::All, instance_id).await?.node_id;
        if here == node {
            let (id, _) = self.state.undo(0, self.tools.clock.as_ref(), self.tools.entropy.as_ref());
            let span = self.undo_span();
            let removed = self.removed(id).instrument(span.clone()).await;
            trace::note(&span, &removed);
            match removed {
                Ok(()) => {}
                // It is off, and told that this was moved away when it is back.
                Err(Left::Failed(failed)) if failed.failure.reason == Reason::NodeFenced => {}
                Err(Left::Rest(rest)) => return Ok(Some(rest)),
                Err(Left::Cancelled) => return self.turn_back(failure).await,
                Err(Left::Failed(failed)) => return self.cannot_leave(failed, failure).await,
            }
            if !self.placed_again().await? {
                return self.turn_back(failure).await;
            }
        }
        self.state.start_over(node);
        for row in &mut self.saga.steps {
            row.state = StepState::Pending;
            (row.started_at, row.finished_at) = (None, None);
            (row.percent, row.detail) = (None, None);
        }
        self.saga.step = 0;
        self.intended = None;
        self.write(Hold::Keep(self.lease_for), &[]).await?;
        Ok(None)
    }

    async fn cannot_leave(&mut self, failed: StepFailure, why: Failure) -> Carried {
        if self.frozen(&failed.failure).await? {
            return Ok(Some(Rest::Lost));
        }
        self.state.tries += 1;
        tracing::warn!(saga_id = %self.saga.id, failure = ?failed.failure, "a node cannot be left yet");
        match after_failed_undo(failed.retry, self.state.tries, self.tools.entropy.as_ref()) {
            Next::Again(pause) => self.wait(pause).await,
            Next::OtherNode | Next::Unwind | Next::Stuck => self.turn_back(why).await,
        }
    }

    /// Places on a node that was not tried yet; false when there is none.
    async fn placed_again(&mut self) -> Result<bool, StoreError> {
        let (Some(order_id), Some(instance_id)) = (self.saga.order_id, self.saga.instance_id) else { return Ok(false) };
        let store = &self.tools.store;
        let region = store.order_fetch(TenantScope::All, order_id).await?.region;
        let instance = store.instance_fetch(TenantScope::All, instance_id).await?;
        let request = request(&instance, region, &self.state.given_up);
        let groups: BTreeSet<GroupKey> = request.group_key().into_iter().collect();
        for _ in 0..PLACEMENTS_MAX {
            let snapshot = store.fleet_snapshot_for(Some(&request.region), &groups).await?;
            let explained = explain(&request, &snapshot);
            let Some(node_id) = explained.choice else { return Ok(false) };
            let reservation_id = ReservationId::new(self.tools.clock.as_ref(), self.tools.entropy.as_ref());
            let place = NewPlace { instance_id, node_id, reservation_id, decision: Decision::of(&explained) };
            match store.instance_place_again(&self.lease, &place).await {
                Ok((_, lease)) => {
                    self.lease = lease;
                    return Ok(true);
                }
                Err(StoreError::Raced) => {}
                Err(StoreError::PortPoolExhausted | StoreError::AddressPoolExhausted) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn request(instance: &Instance, region: RegionName, given_up: &[NodeId]) -> PlacementRequest {
    let mut exclude: BTreeSet<NodeId> = given_up.iter().copied().collect();
    exclude.insert(instance.node_id);
    PlacementRequest { exclude, ..PlacementRequest::again(region, instance) }
}
