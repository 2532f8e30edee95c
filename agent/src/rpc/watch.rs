//! Streams of changes. A slow reader never makes the agent hold more than one bounded queue: it skips states, and begins
//! anew when it is too far behind.

use std::sync::Arc;

use futures::StreamExt as _;
use nemordp_types::Failure;
use nemordp_types::operation::{Operation, OperationState};
use nemordp_wire::{status, v1};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Watch;
use crate::host::Host;
use crate::instance::Shared;

/// Messages that wait for a reader.
const QUEUE: usize = 16;

/// The operation as often as it changes, ending with its outcome.
pub(super) fn operation(mut shown: watch::Receiver<Operation>) -> Watch<v1::Operation> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let operation = shown.borrow_and_update().clone();
            let over = operation.state != OperationState::Running;
            if sender.send(Ok((&operation).into())).await.is_err() || over {
                return;
            }
            tokio::select! {
                () = sender.closed() => return,
                changed = shown.changed() => if changed.is_err() { return },
            }
        }
    });
    ReceiverStream::new(receiver).boxed()
}

/// Every instance, then each change.
pub(super) fn instances<H: Host>(shared: &Arc<Shared<H>>) -> Watch<v1::InstanceStatus> {
    let (sender, receiver) = mpsc::channel::<Result<v1::InstanceStatus, Status>>(QUEUE);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut changes = shared.board.status_watch();
        loop {
            for status in shared.board.statuses() {
                if sender.send(Ok((&status).into())).await.is_err() {
                    return;
                }
            }
            loop {
                let change = tokio::select! {
                    () = sender.closed() => return,
                    change = changes.recv() => change,
                };
                match change {
                    Ok(status) => {
                        if sender.send(Ok((&status).into())).await.is_err() {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => {
                        let failure = Failure::internal("the board is gone");
                        // The reader may be gone too.
                        drop(sender.send(Err(status::to_status(&failure))).await);
                        return;
                    }
                }
            }
        }
    });
    ReceiverStream::new(receiver).boxed()
}
