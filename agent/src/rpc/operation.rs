//! Mutations and the operations that they become.

use std::time::Duration;

use nemordp_types::instance::{InstanceSpec, PowerAction};
use nemordp_types::operation::{Operation, OperationState};
use nemordp_types::{Failure, Mutation, OperationId, Reason};
use nemordp_wire::{fencing, id, v1};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{AgentService, Watch, login_name, watch as stream};
use crate::host::Host;
use crate::instance::plan::{Job, Work};

/// Longer ones no guest takes; a bound for what is held in memory.
const PASSWORD_MAX: usize = 256;
/// The longest that an answer waits for an operation's end: well within the deadline of a call.
const WAIT_MAX: Duration = Duration::from_secs(10);

impl<H: Host> AgentService<H> {
    pub(super) async fn submit(&self, wait_ms: u32, work: Result<Work, Failure>) -> Result<v1::Operation, Failure> {
        let operation = self.registry.submit(work?).await?;
        let shown = self.shared.board.operation_watch(operation.mutation.operation_id);
        match shown.filter(|_| operation.state == OperationState::Running) {
            Some(shown) => Ok((&ended(shown, wait_ms).await).into()),
            None => Ok((&operation).into()),
        }
    }

    pub(super) async fn operation_get(&self, message: v1::GetOperationRequest) -> Result<v1::Operation, Failure> {
        let id: OperationId = id::decode(&message.operation_id, "operation_id")?;
        let shown = self.shared.board.operation_watch(id).ok_or_else(unknown)?;
        Ok((&ended(shown, message.wait_ms).await).into())
    }

    pub(super) fn operation_watch(&self, bytes: &[u8]) -> Result<Watch<v1::Operation>, Failure> {
        let id: OperationId = id::decode(bytes, "operation_id")?;
        self.shared.board.operation_watch(id).map(stream::operation).ok_or_else(unknown)
    }
}

/// The operation when it is over, or as it is after that time.
async fn ended(mut shown: watch::Receiver<Operation>, wait_ms: u32) -> Operation {
    let wait = Duration::from_millis(u64::from(wait_ms)).min(WAIT_MAX);
    let over = shown.wait_for(|operation| operation.state != OperationState::Running);
    // One that is forgotten meanwhile is told as it was last.
    drop(timeout(wait, over).await);
    shown.borrow().clone()
}

fn unknown() -> Failure {
    Failure::new(Reason::NotFound, "no such operation on this node, or its outcome is too old: read the instance")
        .with_field("operation_id")
}

fn mutation(message: Option<v1::Mutation>) -> Result<Mutation, Failure> {
    fencing::required(message)
}

pub(super) fn ensure(message: v1::EnsureInstanceRequest) -> Result<Work, Failure> {
    let mutation = mutation(message.mutation)?;
    let spec = message.spec.ok_or_else(|| Failure::field("spec", "say what the instance should be"))?;
    let spec = InstanceSpec::try_from(spec).map_err(|failure| failure.within("spec"))?;
    let spec = Box::new(spec);
    let job = if message.without_guest { Job::Reconfigure(spec) } else { Job::Ensure(spec) };
    Ok(Work { mutation, job })
}

pub(super) fn power(message: v1::PowerInstanceRequest) -> Result<Work, Failure> {
    let action = PowerAction::try_from(message.action())?;
    Ok(Work { mutation: mutation(message.mutation)?, job: Job::Power(action) })
}

pub(super) fn delete(message: v1::DeleteInstanceRequest) -> Result<Work, Failure> {
    Ok(Work { mutation: mutation(message.mutation)?, job: Job::Delete })
}

pub(super) fn set_password(message: v1::SetPasswordRequest) -> Result<Work, Failure> {
    let password = SecretString::from(message.password);
    let length = secrecy::ExposeSecret::expose_secret(&password).len();
    if length == 0 || length > PASSWORD_MAX {
        return Err(Failure::field("password", "use 1 to 256 bytes"));
    }
    let login = login_name(message.login_name)?;
    Ok(Work { mutation: mutation(message.mutation)?, job: Job::SetPassword { login, password } })
}

pub(super) fn end_sessions(message: v1::EndSessionsRequest) -> Result<Work, Failure> {
    let login = login_name(message.login_name)?;
    let job = Job::EndSessions { login, proof_only: message.proof_only };
    Ok(Work { mutation: mutation(message.mutation)?, job })
}
