//! What has to be done for a piece of work, given what is there: a pure list of steps.

use std::collections::VecDeque;

use nemordp_types::instance::{DesiredPower, InstanceSpec, ObservedPower, PowerAction};
use nemordp_types::operation::{OperationKind, Stage};
use nemordp_types::{Failure, LoginName, Mutation, Reason};
use secrecy::SecretString;

/// What is asked for, with its numbers.
#[derive(Debug, Clone)]
pub struct Work {
    /// Who asks, with which numbers.
    pub mutation: Mutation,
    /// What for.
    pub job: Job,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Job {
    /// Bring it to this specification.
    Ensure(Box<InstanceSpec>),
    /// Change its power.
    Power(PowerAction),
    /// Remove it with all that belongs to it.
    Delete,
    /// Set an account's password.
    SetPassword {
        /// Whose.
        login: LoginName,
        /// Which; never shown by `Debug`.
        password: SecretString,
    },
    /// End an account's sessions.
    EndSessions {
        /// Whose.
        login: LoginName,
        /// Only the session that a login proof opened.
        proof_only: bool,
    },
}

impl Job {
    /// What the journal and the wire call it.
    #[must_use]
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::Ensure(_) => OperationKind::EnsureInstance,
            Self::Power(_) => OperationKind::PowerInstance,
            Self::Delete => OperationKind::DeleteInstance,
            Self::SetPassword { .. } => OperationKind::SetPassword,
            Self::EndSessions { .. } => OperationKind::EndSessions,
        }
    }
}

/// One thing that is done, safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Reads what is there; the plan follows from it.
    Look,
    /// Has the template on the node.
    Template,
    /// Clones the disk, and sets forwarding and isolation meanwhile.
    Disk,
    /// Sets forwarding and isolation.
    Network,
    /// Defines the domain with the wanted specification.
    Define,
    /// Boots.
    Start,
    /// Waits until the guest agent answers.
    GuestAgent,
    /// Sets name, time zone, keyboard, account.
    Personalise,
    /// Waits until the guest has the ordered address.
    Address,
    /// Waits until RDP answers inside, and reads its certificate.
    RdpAnswer,
    /// Writes down whether it should run, so that a reboot of the host keeps to it.
    WritePower(DesiredPower),
    /// Asks the guest to shut down, and cuts its power when it does not in time.
    Stop,
    /// Cuts the power.
    Cut,
    /// Sets the password.
    Password,
    /// Ends sessions.
    Sessions,
    /// Removes the domain.
    Undefine,
    /// Removes forwarding and isolation.
    Unforward,
    /// Removes the disk.
    Erase,
}

impl Step {
    /// How operators and the control plane see it.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Look => Stage::Queued,
            Self::Template => Stage::Template,
            Self::Disk => Stage::Disk,
            Self::Network => Stage::Network,
            Self::Define => Stage::Define,
            Self::Start => Stage::Start,
            Self::GuestAgent => Stage::GuestAgent,
            Self::Personalise => Stage::Personalise,
            Self::Address => Stage::Address,
            Self::RdpAnswer => Stage::RdpAnswer,
            Self::WritePower(_) | Self::Stop => Stage::Power,
            Self::Password => Stage::Password,
            Self::Sessions => Stage::Sessions,
            Self::Cut | Self::Undefine | Self::Unforward | Self::Erase => Stage::Remove,
        }
    }

    /// Whether it brings an instance into being or to life.
    #[must_use]
    pub const fn creates(self) -> bool {
        match self {
            Self::Template
            | Self::Disk
            | Self::Network
            | Self::Define
            | Self::Start
            | Self::Personalise
            | Self::WritePower(_) => true,
            Self::Look
            | Self::GuestAgent
            | Self::Address
            | Self::RdpAnswer
            | Self::Stop
            | Self::Cut
            | Self::Password
            | Self::Sessions
            | Self::Undefine
            | Self::Unforward
            | Self::Erase => false,
        }
    }
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The domain, if there is one.
    pub existing: Option<Existing>,
    /// Whether the guest was personalised as this work wants it.
    pub personalised: bool,
}

/// A domain of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// What it was made from.
    pub spec: InstanceSpec,
    /// Whether it runs.
    pub power: ObservedPower,
}

/// The steps that this work needs.
///
/// # Errors
/// What is there does not allow it; nothing was done.
pub fn steps(job: &Job, facts: &Facts) -> Result<VecDeque<Step>, Failure> {
    match job {
        Job::Ensure(spec) => ensure(spec, facts),
        Job::Power(action) => power(*action, facts),
        Job::Delete => Ok(delete(facts)),
        Job::SetPassword { .. } => running(facts).map(|()| VecDeque::from([Step::Password])),
        Job::EndSessions { .. } => running(facts).map(|()| VecDeque::from([Step::Sessions])),
    }
}

fn ensure(wanted: &InstanceSpec, facts: &Facts) -> Result<VecDeque<Step>, Failure> {
    let Some(existing) = &facts.existing else {
        let mut steps = VecDeque::from([Step::Template, Step::Disk, Step::Define]);
        if wanted.power == DesiredPower::On {
            steps.push_back(Step::Start);
            until_ready(&mut steps, facts);
        }
        return Ok(steps);
    };
    changeable(&existing.spec, wanted)?;
    let mut steps = VecDeque::from([Step::Network]);
    if existing.spec != *wanted {
        steps.push_back(Step::Define);
    }
    match wanted.power {
        DesiredPower::Off => {
            if existing.power != ObservedPower::Off {
                steps.push_back(Step::Stop);
            }
        }
        DesiredPower::On => {
            match existing.power {
                ObservedPower::Running | ObservedPower::Paused => {}
                ObservedPower::Failed => steps.extend([Step::Cut, Step::Start]),
                ObservedPower::Off | ObservedPower::Absent => steps.extend([Step::Disk, Step::Start]),
            }
            until_ready(&mut steps, facts);
        }
    }
    Ok(steps)
}

/// A guest gets its names before its address is awaited: both take their time, and the names do not need the network.
fn until_ready(steps: &mut VecDeque<Step>, facts: &Facts) {
    steps.push_back(Step::GuestAgent);
    if !facts.personalised {
        steps.push_back(Step::Personalise);
    }
    steps.extend([Step::Address, Step::RdpAnswer]);
}

/// What an instance was made from cannot be changed under it.
fn changeable(is: &InstanceSpec, wanted: &InstanceSpec) -> Result<(), Failure> {
    let fixed = [
        ("spec.order_id", is.order_id == wanted.order_id),
        ("spec.template", is.template.digest == wanted.template.digest),
        ("spec.storage_class", is.storage_class == wanted.storage_class),
        ("spec.disk_gib", is.disk == wanted.disk),
    ];
    match fixed.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((field, _)) => Err(Failure::new(
            Reason::Conflict,
            "the instance exists and was made from another value: delete it and order a new one",
        )
        .with_field(field)),
    }
}

fn power(action: PowerAction, facts: &Facts) -> Result<VecDeque<Step>, Failure> {
    let Some(existing) = &facts.existing else {
        return Err(absent());
    };
    let off = matches!(existing.power, ObservedPower::Off | ObservedPower::Absent);
    let desired = if action == PowerAction::Stop { DesiredPower::Off } else { DesiredPower::On };
    let mut steps = VecDeque::new();
    if existing.spec.power != desired {
        steps.push_back(Step::WritePower(desired));
    }
    match action {
        PowerAction::Start if existing.power == ObservedPower::Running => {}
        PowerAction::Start if off => steps.extend([Step::Network, Step::Start]),
        PowerAction::Stop if off => {}
        PowerAction::Stop => steps.push_back(Step::Stop),
        PowerAction::Restart if existing.power == ObservedPower::Running => {
            steps.extend([Step::Stop, Step::Network, Step::Start]);
        }
        PowerAction::Start | PowerAction::Restart | PowerAction::Reset => {
            steps.extend([Step::Cut, Step::Network, Step::Start]);
        }
    }
    Ok(steps)
}

/// A foreign domain on our name is not in the facts, so that it is neither cut nor undefined.
fn delete(facts: &Facts) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    if facts.existing.is_some() {
        steps.extend([Step::Cut, Step::Undefine]);
    }
    steps.extend([Step::Unforward, Step::Erase]);
    steps
}

fn running(facts: &Facts) -> Result<(), Failure> {
    match &facts.existing {
        None => Err(absent()),
        Some(existing) if existing.power == ObservedPower::Running => Ok(()),
        Some(_) => Err(Failure::new(Reason::Conflict, "the instance does not run: start it first")),
    }
}

/// No such instance here.
pub(crate) fn absent() -> Failure {
    Failure::new(Reason::NotFound, "no such instance on this node").with_field("mutation.instance_id")
}
