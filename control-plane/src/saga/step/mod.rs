//! What each step does. A step is safe to repeat: its change on the node has an id that was stored before.

mod login;
mod node;
mod password;

pub(super) use password::sealed_password;

use std::time::Duration;

use nemordp_model::{Instance, OrderChange};
use nemordp_providers::{Change, Pace, Place, apply};
use nemordp_store::{Effect, Hold, Lease, Placed, SagaWrite, StoreError};
use nemordp_types::node::NodeAvailability;
use nemordp_types::operation::Operation;
use nemordp_types::template::RdpSecurity;
use nemordp_types::{Failure, InstanceId, Mutation, OperationId, OrderId, Reason};
use tokio::sync::watch;

use super::Tools;
use super::plan::Step;
use super::retry::StepFailure;
use super::state::State;

/// How far a step is, for who watches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// In percent, where that can be told.
    pub percent: Option<u8>,
    /// In a word.
    pub detail: Option<String>,
}

/// What a step works on.
#[derive(Debug)]
pub struct Work<'a> {
    /// With what.
    pub tools: &'a Tools,
    /// The right to do so.
    pub lease: &'a Lease,
    /// For how long the lease is kept with each write.
    pub lease_for: Duration,
    /// Which step of the saga it is.
    pub position: u32,
    /// What is remembered.
    pub state: &'a mut State,
    /// The order that is fulfilled, if any.
    pub order_id: Option<OrderId>,
    /// The instance as the store has it now.
    pub instance: Instance,
    /// Where it runs.
    pub place: Place,
    /// Where progress goes.
    pub shown: &'a watch::Sender<Shown>,
}

/// The instance that a lease is about, where it runs, and whether an operator stated that this node is off.
///
/// # Errors
/// When the store cannot be read.
pub async fn subject(tools: &Tools, lease: &Lease) -> Result<(Instance, Place, bool), StoreError> {
    let (id, _) = lease.instance.ok_or(StoreError::NotFound { noun: "instance" })?;
    let Placed { instance, agent_address, availability } = tools.store.instance_fetch_placed(id).await?;
    let place = Place { node: instance.node_id, address: agent_address };
    Ok((instance, place, availability == NodeAvailability::Fenced))
}

/// What a step brings about whose node is off, where it counts as done all the same: what is wanted holds there until it is
/// back, and then it is brought in line before anything starts.
#[must_use]
pub fn without_node(step: Step, instance_id: InstanceId) -> Vec<Effect> {
    let misalign = Effect::Misalign { instance_id };
    match step {
        Step::DeleteInstance => vec![Effect::EraseSecret { instance_id }],
        Step::Settle => vec![Effect::Settle { instance_id }, misalign],
        Step::EnsureInstance
        | Step::Remake
        | Step::Reconfigure
        | Step::EndSessions
        | Step::SetPassword
        | Step::ProveLogin
        | Step::EndProofSession
        | Step::Activate
        | Step::Power(_)
        | Step::ReadCertificate
        | Step::EraseSecret
        | Step::Forget => vec![misalign],
    }
}

/// What a step brings about that touches nothing but the store; none for one that needs a node or a guest. With NLA the
/// proof opens no session that would have to be ended.
#[must_use]
pub fn in_store(
    step: Step,
    security: Option<RdpSecurity>,
    instance_id: InstanceId,
    order_id: Option<OrderId>,
) -> Option<Vec<Effect>> {
    match step {
        Step::EndProofSession if security == Some(RdpSecurity::Nla) => Some(Vec::new()),
        Step::Activate => {
            let order = order_id.map(|order_id| Effect::Order { order_id, change: OrderChange::Activate });
            Some([Effect::InstanceActive { instance_id }].into_iter().chain(order).collect())
        }
        Step::EraseSecret => Some(vec![Effect::EraseSecret { instance_id }]),
        Step::Forget => Some(vec![Effect::InstanceDeleted { instance_id }]),
        Step::EnsureInstance
        | Step::Remake
        | Step::Reconfigure
        | Step::EndSessions
        | Step::SetPassword
        | Step::ProveLogin
        | Step::EndProofSession
        | Step::Power(_)
        | Step::ReadCertificate
        | Step::Settle
        | Step::DeleteInstance => None,
    }
}

impl Work<'_> {
    /// Does the step; what it brings about is written together with its result.
    ///
    /// # Errors
    /// What happened, and what may be done about it.
    pub async fn run(&mut self, step: Step) -> Result<Vec<Effect>, StepFailure> {
        match step {
            Step::EnsureInstance => self.ensure_instance().await,
            Step::Remake => self.remake().await,
            Step::Reconfigure => self.reconfigure().await,
            Step::EndSessions => self.end_sessions(false).await,
            Step::SetPassword => self.set_password().await,
            Step::ProveLogin => self.prove_login().await,
            Step::EndProofSession => self.end_proof_session().await,
            Step::Power(action) => self.power(action).await,
            Step::ReadCertificate => self.read_certificate().await,
            Step::Settle => self.settle().await,
            Step::DeleteInstance => self.delete_instance().await,
            Step::Activate | Step::EraseSecret | Step::Forget => {
                Ok(in_store(step, None, self.instance.id, self.order_id).unwrap_or_default())
            }
        }
    }

    /// Stores what is remembered while the step goes on, with what must not be lost.
    async fn remember(&self, effects: &[Effect]) -> Result<(), StepFailure> {
        let write = SagaWrite {
            state: &self.state.to_text()?,
            status: nemordp_model::SagaStatus::Running,
            step: self.position,
            failure: None,
            hold: Hold::Keep(self.lease_for),
            steps: &[],
            effects,
        };
        Ok(self.tools.store.saga_write(self.lease, &write).await?)
    }

    /// Sends a change to the node and follows it to its outcome.
    async fn change(&self, id: OperationId, change: &Change, within: Duration) -> Result<Operation, Failure> {
        let (instance_id, pair) =
            self.lease.instance.ok_or_else(|| Failure::internal("a lease without its instance"))?;
        let mutation = Mutation { operation_id: id, instance_id, pair };
        let shown = |operation: &Operation| {
            self.show(Shown { percent: operation.percent, detail: Some(operation.stage.word().to_owned()) });
        };
        apply(self.tools.provider.as_ref(), &self.place, mutation, change, Pace::within(within), &shown).await
    }

    /// The change that this step sends, chosen before the step began.
    fn change_id(&mut self) -> OperationId {
        self.state.change(self.position, self.tools.clock.as_ref(), self.tools.entropy.as_ref()).0
    }

    fn say(&self, detail: &str) {
        self.show(Shown { percent: None, detail: Some(detail.to_owned()) });
    }

    fn show(&self, now: Shown) {
        self.shown.send_if_modified(|shown| {
            let differs = *shown != now;
            *shown = now;
            differs
        });
    }
}

/// Trying again may help, whatever the reason says in general.
fn transient(reason: Reason, message: &str) -> StepFailure {
    StepFailure { failure: Failure::new(reason, message), retry: nemordp_types::Retry::Transient }
}
