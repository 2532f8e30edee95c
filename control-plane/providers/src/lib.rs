//! What instances run on, behind one trait; our own nodes are one kind of it.
//!
//! A [`Provider`] is asked in the words of the vocabulary and knows nothing of orders, stores or sagas. A change is sent
//! once with a deadline and answered by an [`Operation`] that the place goes on with by itself; [`apply`] follows it to
//! its outcome. Nothing is retried here: a transient failure is returned as such, and whoever asked decides, with the
//! same operation id.
//!
//! Map: [`change`] what can be asked for · [`follow`] sending a change and following it · [`nodes`] our own agents.

pub mod change;
pub mod follow;
pub mod nodes;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::operation::Operation;
use nemordp_types::template::{TemplatePresence, TemplateState};
use nemordp_types::{
    Bytes, Failure, InstanceId, LoginName, Mutation, NodeAddress, NodeId, OperationId, Reason, Template,
};

pub use change::Change;
pub use follow::{Pace, Progress, apply};
pub use nodes::Nodes;

/// What a provider can do beyond making and removing instances; a saga asks before it plans a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Start, stop, restart, reset.
    pub power: bool,
    /// The same operation id twice is one change; without it, creates are adopted by their label.
    pub idempotent_changes: bool,
    /// Reads the account's state inside the guest.
    pub account_state: bool,
    /// Lists and ends desktop sessions inside the guest.
    pub sessions: bool,
    /// Sets a password in a running guest.
    pub live_password: bool,
    /// Grows a disk, changes processors and memory.
    pub resize: bool,
    /// Snapshots of a disk.
    pub snapshot: bool,
    /// A graphical console beside RDP.
    pub console: bool,
}

/// A place that instances run at: a node, and where its agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which node; its certificate must say the same.
    pub node: NodeId,
    /// Where its agent is reached.
    pub address: NodeAddress,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.node, self.address)
    }
}

/// Runs instances. Every call ends by its own deadline; dropping a future abandons the call, never a change that the
/// place has accepted already.
pub trait Provider: Send + Sync + fmt::Debug {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Asks for a change and returns when it is over, or when the place has written it down and so much time has passed;
    /// a place that cannot wait answers at once.
    ///
    /// # Errors
    /// `node_unreachable`, `deadline_exceeded`: it may or may not have been accepted, the same operation id is safe to
    /// send again. `stale_generation`, `instance_deleted`, `store_behind_node`, `not_ours`: refused.
    fn send<'a>(
        &'a self,
        place: &'a Place,
        mutation: Mutation,
        change: &'a Change,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Operation, Failure>>;

    /// The truth about an operation, when it is over or so much time has passed; a place that cannot wait answers at once.
    ///
    /// # Errors
    /// `not_found` when the place never heard of it.
    fn operation<'a>(
        &'a self,
        place: &'a Place,
        id: OperationId,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Operation, Failure>>;

    /// What the place last saw of an instance.
    ///
    /// # Errors
    /// `not_found` when no such instance is there.
    fn status<'a>(&'a self, place: &'a Place, id: InstanceId) -> BoxFuture<'a, Result<InstanceStatus, Failure>>;

    /// Everything at the place that carries our mark.
    fn instances<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Vec<InstanceStatus>, Failure>>;

    /// The account as the guest sees it; refusals before `since` do not count.
    fn account<'a>(
        &'a self,
        place: &'a Place,
        id: InstanceId,
        login: &'a LoginName,
        since: Timestamp,
    ) -> BoxFuture<'a, Result<Account, Failure>>;

    /// Desktop sessions that are open inside the guest.
    fn sessions<'a>(&'a self, place: &'a Place, id: InstanceId) -> BoxFuture<'a, Result<Vec<GuestSession>, Failure>>;

    /// Has the place switch an instance off at a time, whoever can be reached then; none takes that back.
    ///
    /// # Errors
    /// `not_found`, `stale_generation`, `instance_deleted`; `conflict` where a place cannot keep a time.
    fn suspend_at<'a>(
        &'a self,
        _place: &'a Place,
        _mutation: Mutation,
        _at: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let cannot = Failure::new(Reason::Conflict, "this place keeps no time: suspend the instance when it is time");
        Box::pin(std::future::ready(Err(cannot)))
    }

    /// Has the place fetch a template ahead of the first order, unless it has it; says how far it is. A place that gets
    /// its templates in another way has nothing to do.
    ///
    /// # Errors
    /// As for any read; what keeps the template from arriving stands in the answer.
    fn template_prepare<'a>(
        &'a self,
        _place: &'a Place,
        template: &'a Template,
    ) -> BoxFuture<'a, Result<TemplatePresence, Failure>> {
        let presence = TemplatePresence { digest: template.digest, state: TemplateState::Ready, fetched: Bytes::ZERO };
        Box::pin(std::future::ready(Ok(presence)))
    }

    /// What the place is and offers, and how loaded it is now.
    fn inventory<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<(NodeInventory, NodeLoad), Failure>>;
}
