//! Backward: what was done is undone, from the present step down.

use nemordp_model::{OrderChange, SagaKind, SagaStatus, StepState};
use nemordp_store::{Effect, Hold, StoreError};
use nemordp_types::{Failure, Reason};
use tracing::Instrument as _;

use super::{Carried, Carrier, Left, Rest, trace};
use crate::saga::plan::{Step, Undo};
use crate::saga::retry::{Next, StepFailure, after_failed_undo};

impl Carrier<'_> {
    /// Undoes from the present step down; what needs no undo is only noted.
    pub(super) async fn backward(&mut self) -> Carried {
        loop {
            let position = self.saga.step;
            // A step that never began has nothing to undo.
            let began = self.state.changes.contains_key(&position);
            let undo = self.step().and_then(Step::undo);
            if let Some(undo) = undo.filter(|_| began) {
                let (id, fresh) = self.state.undo(position, self.tools.clock.as_ref(), self.tools.entropy.as_ref());
                if let Some(row) = self.row(position) {
                    row.state = StepState::Undoing;
                }
                if fresh {
                    self.write(Hold::Keep(self.lease_for), &[]).await?;
                }
                let span = self.undo_span();
                let undone = match undo {
                    Undo::Remove => self.removed(id).instrument(span.clone()).await,
                    Undo::TakeBack => self.taken_back(id).instrument(span.clone()).await,
                };
                trace::note(&span, &undone);
                match undone {
                    Ok(()) => {}
                    // What was made there is off, and is withdrawn or brought in line when the node is back.
                    Err(Left::Failed(failed)) if failed.failure.reason == Reason::NodeFenced => {
                        self.left_behind(undo).await?;
                    }
                    Err(Left::Rest(rest)) => return Ok(Some(rest)),
                    Err(Left::Failed(failed)) => return self.fail_undo(failed).await,
                    // Nobody can call off an undo.
                    Err(Left::Cancelled) => continue,
                }
            }
            if let Some(row) = self.row(position) {
                row.state = if began { StepState::Undone } else { StepState::Skipped };
            }
            self.state.tries = 0;
            if position == 0 {
                return self.unwound().await;
            }
            self.saga.step = position - 1;
        }
    }

    /// An undo on a node that is fenced counts as done; what was changed there is noted.
    async fn left_behind(&mut self, undo: Undo) -> Result<(), StoreError> {
        tracing::warn!(saga_id = %self.saga.id, step = self.saga.step, ?undo, "undone without its node, which is fenced");
        let misaligned = self.saga.instance_id.filter(|_| undo == Undo::TakeBack);
        let effects: Vec<_> = misaligned.map(|instance_id| Effect::Misalign { instance_id }).into_iter().collect();
        self.write(Hold::Keep(self.lease_for), &effects).await
    }

    async fn fail_undo(&mut self, StepFailure { failure, retry }: StepFailure) -> Carried {
        if self.frozen(&failure).await? {
            return Ok(Some(Rest::Lost));
        }
        self.state.tries += 1;
        let next = after_failed_undo(retry, self.state.tries, self.tools.entropy.as_ref());
        tracing::warn!(saga_id = %self.saga.id, tries = self.state.tries, ?failure, ?next, "undo failed");
        let position = self.saga.step;
        if let Some(row) = self.row(position) {
            row.failure = Some(failure.clone());
        }
        match next {
            Next::Again(pause) => self.wait(pause).await,
            Next::OtherNode | Next::Unwind | Next::Stuck => self.stick(failure).await,
        }
    }

    async fn unwound(&mut self) -> Carried {
        let cause = self.state.cause.take().or_else(|| self.saga.failure.clone());
        let failure = cause.unwrap_or_else(|| Failure::internal("unwound without a cause"));
        let asked_for = failure.reason == Reason::Cancelled;
        self.saga.status = if asked_for { SagaStatus::Cancelled } else { SagaStatus::Unwound };
        self.saga.failure = Some(failure.clone());
        let mut effects = Vec::new();
        if self.saga.kind == SagaKind::Provision {
            effects.extend(self.saga.instance_id.map(|instance_id| Effect::InstanceFailed { instance_id }));
            let change = if asked_for { OrderChange::Cancel } else { OrderChange::Fail(failure) };
            effects.extend(self.saga.order_id.map(|order_id| Effect::Order { order_id, change }));
        } else if self.state.password_made {
            // Nobody may be shown a password of which it is not known whether the guest has it.
            effects.extend(self.saga.instance_id.map(|instance_id| Effect::EraseSecret { instance_id }));
        }
        self.write(Hold::Keep(self.lease_for), &effects).await?;
        Ok(None)
    }
}
