//! What has to be done for a piece of work, given what is there: a pure list of steps.

use std::collections::VecDeque;

use nemordp_types::instance::{DesiredPower, Edition, InstanceSpec, ObservedPower, PowerAction};
use nemordp_types::operation::{OperationKind, Stage};
use nemordp_types::{Bytes, Failure, LoginName, Mutation, Reason};
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
    /// The same, without waiting for the guest: its owner may have changed what would answer.
    Reconfigure(Box<InstanceSpec>),
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
            Self::Ensure(_) | Self::Reconfigure(_) => OperationKind::EnsureInstance,
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
    /// Clones the disks that are missing, and sets forwarding and isolation meanwhile.
    Disk,
    /// Grows the disk.
    Grow,
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
    /// Shows a rescue system the instance's own disk.
    Attach,
    /// Removes the disks that nobody needs.
    Tidy,
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
            Self::Disk | Self::Grow | Self::Attach => Stage::Disk,
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
            Self::Cut | Self::Undefine | Self::Unforward | Self::Tidy | Self::Erase => Stage::Remove,
        }
    }

    /// Whether it brings an instance into being or to life.
    #[must_use]
    pub const fn creates(self) -> bool {
        match self {
            Self::Template
            | Self::Disk
            | Self::Grow
            | Self::Network
            | Self::Define
            | Self::Start
            | Self::Attach
            | Self::Personalise
            | Self::WritePower(_) => true,
            Self::Look
            | Self::GuestAgent
            | Self::Address
            | Self::RdpAnswer
            | Self::Stop
            | Self::Cut
            | Self::Tidy
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
    /// Whether the guest was personalised as this work wants it, on the disk that it boots from.
    pub personalised: bool,
    /// The disks that are there, of the kind of storage that this work is about.
    pub disks: Vec<Edition>,
}

/// A domain of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// What it was made from.
    pub spec: InstanceSpec,
    /// Whether it runs.
    pub power: ObservedPower,
    /// Size of its own disk.
    pub disk: Bytes,
}

impl Existing {
    /// Whether power has to be cut before anything that needs it off.
    const fn is_on(&self) -> bool {
        match self.power {
            ObservedPower::Running | ObservedPower::Paused | ObservedPower::Failed => true,
            ObservedPower::Off | ObservedPower::Absent => false,
        }
    }
}

/// The steps that this work needs.
///
/// # Errors
/// What is there does not allow it; nothing was done.
pub fn steps(job: &Job, facts: &Facts) -> Result<VecDeque<Step>, Failure> {
    match job {
        Job::Ensure(spec) => ensure(spec, facts, true),
        Job::Reconfigure(spec) => ensure(spec, facts, false),
        Job::Power(action) => power(*action, facts),
        Job::Delete => Ok(delete(facts)),
        Job::SetPassword { .. } => running(facts).map(|()| VecDeque::from([Step::Password])),
        Job::EndSessions { .. } => running(facts).map(|()| VecDeque::from([Step::Sessions])),
    }
}

fn ensure(wanted: &InstanceSpec, facts: &Facts, waits: bool) -> Result<VecDeque<Step>, Failure> {
    let Some(existing) = &facts.existing else {
        let mut steps = VecDeque::from([Step::Template, Step::Disk, Step::Define]);
        if wanted.effective_power() == DesiredPower::On {
            steps.push_back(Step::Start);
            after_boot(&mut steps, wanted, facts, waits);
        }
        return Ok(steps);
    };
    changeable(existing, wanted)?;
    // What is suspended cannot be reached before anything else happens.
    let mut steps = VecDeque::from([if wanted.suspended { Step::Unforward } else { Step::Network }]);
    let reshaped = reshape(&mut steps, existing, wanted, facts);
    if existing.spec != *wanted {
        steps.push_back(Step::Define);
    }
    match wanted.effective_power() {
        DesiredPower::Off if existing.is_on() && !reshaped => steps.push_back(Step::Stop),
        DesiredPower::Off => {}
        DesiredPower::On => {
            match existing.power {
                _ if reshaped => steps.push_back(Step::Start),
                ObservedPower::Running | ObservedPower::Paused => {}
                ObservedPower::Failed => steps.extend([Step::Cut, Step::Start]),
                ObservedPower::Off | ObservedPower::Absent => steps.extend([Step::Disk, Step::Start]),
            }
            after_boot(&mut steps, wanted, facts, waits);
        }
    }
    if facts.disks.iter().any(|edition| !wanted.disks.needs(*edition)) {
        steps.push_back(Step::Tidy);
    }
    Ok(steps)
}

/// What needs the guest off: another disk to boot from, another size. Only then the domain is defined anew, so that a
/// crash in between finds the old description and begins again. Says whether there was any.
fn reshape(steps: &mut VecDeque<Step>, existing: &Existing, wanted: &InstanceSpec, facts: &Facts) -> bool {
    let boots = wanted.disks.boots();
    let other_disk = existing.spec.disks.boots() != boots;
    let other_system = existing.spec.disks.system != wanted.disks.system;
    let grows = !other_system && existing.disk < Bytes::from(wanted.disk);
    let resized =
        existing.spec.vcpu != wanted.vcpu || existing.spec.memory != wanted.memory || existing.spec.gpus != wanted.gpus;
    if !(other_disk || grows || resized) {
        return false;
    }
    if other_disk && !facts.disks.contains(&boots) {
        // The guest runs on meanwhile.
        steps.extend([Step::Template, Step::Disk]);
    }
    match existing.power {
        ObservedPower::Running | ObservedPower::Paused => steps.push_back(Step::Stop),
        ObservedPower::Failed => steps.push_back(Step::Cut),
        ObservedPower::Off | ObservedPower::Absent => {}
    }
    if grows {
        steps.push_back(Step::Grow);
    }
    true
}

/// A guest gets its names before its address is awaited: both take their time, and the names do not need the network. A
/// rescue system sees the instance's own disk when it has booted, not before.
fn after_boot(steps: &mut VecDeque<Step>, wanted: &InstanceSpec, facts: &Facts, waits: bool) {
    let rescued = wanted.disks.rescue.is_some();
    if waits || rescued {
        steps.push_back(Step::GuestAgent);
    }
    if waits {
        if !facts.personalised {
            steps.push_back(Step::Personalise);
        }
        steps.extend([Step::Address, Step::RdpAnswer]);
    }
    if rescued {
        steps.push_back(Step::Attach);
    }
}

/// What an instance was made from cannot be changed under it; a fresh disk may come from another template.
fn changeable(existing: &Existing, wanted: &InstanceSpec) -> Result<(), Failure> {
    let is = &existing.spec;
    let same_disk = is.disks.system == wanted.disks.system;
    let fixed = [
        ("spec.order_id", is.order_id == wanted.order_id),
        ("spec.template", !same_disk || is.template.digest == wanted.template.digest),
        ("spec.storage_class", is.storage_class == wanted.storage_class),
    ];
    if let Some((field, _)) = fixed.into_iter().find(|(_, same)| !same) {
        return Err(Failure::new(
            Reason::Conflict,
            "the instance exists and was made from another value: delete it and order a new one",
        )
        .with_field(field));
    }
    if same_disk && Bytes::from(wanted.disk) < existing.disk {
        let least = existing.disk.to_gib_ceil();
        return Err(Failure::new(Reason::DiskTooSmall, format!("a disk only grows: use {least} or more"))
            .with_field("spec.disk_gib"));
    }
    Ok(())
}

fn power(action: PowerAction, facts: &Facts) -> Result<VecDeque<Step>, Failure> {
    let Some(existing) = &facts.existing else {
        return Err(absent());
    };
    if existing.spec.suspended && action != PowerAction::Stop {
        return Err(
            Failure::new(Reason::Conflict, "the instance is suspended: unsuspend it first").with_field("action")
        );
    }
    let off = !existing.is_on();
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
    if desired == DesiredPower::On {
        after_start(&mut steps, existing, facts);
    }
    Ok(steps)
}

/// What was put off while it was down: new names, and a rescue system's sight of the instance's own disk.
fn after_start(steps: &mut VecDeque<Step>, existing: &Existing, facts: &Facts) {
    let rescued = existing.spec.disks.rescue.is_some();
    if !facts.personalised || rescued {
        steps.push_back(Step::GuestAgent);
    }
    if !facts.personalised {
        steps.push_back(Step::Personalise);
    }
    if rescued {
        steps.push_back(Step::Attach);
    }
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
