//! A guest as a fake node has it: it follows what is wanted of it by the rules of `agent/src/instance/plan.rs`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use nemordp_types::guest::GuestSession;
use nemordp_types::instance::{DesiredPower, Edition, InstanceSpec, PowerAction};
use nemordp_types::operation::OperationState;
use nemordp_types::{Failure, GiB, HostName, LoginName, Reason};

/// The certificate that the guest on an order's own disk shows.
const CERTIFICATE: [u8; 32] = [7; 32];

/// A disk with the system on it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) size: GiB,
    pub(crate) password: Option<String>,
    pub(crate) host_name: HostName,
}

/// What a node has of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) spec: InstanceSpec,
    pub(crate) running: bool,
    pub(crate) disks: BTreeMap<Edition, Disk>,
    pub(crate) sessions: Vec<GuestSession>,
    /// Whether it can be reached from outside.
    pub(crate) forwarded: bool,
    /// How often each of its disks was made: what was made again lost what was on it.
    pub(crate) born: BTreeMap<Edition, u32>,
}

impl Guest {
    pub(crate) fn new(spec: &InstanceSpec) -> Self {
        let mut guest = Self {
            spec: spec.clone(),
            running: false,
            disks: BTreeMap::new(),
            sessions: Vec::new(),
            forwarded: false,
            born: BTreeMap::new(),
        };
        guest.follow(spec);
        guest
    }

    /// The disk that it boots from.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disks[&self.spec.disks.boots()]
    }

    /// The password that opens it now.
    pub(crate) fn password(&self) -> Option<&str> {
        self.disk().password.as_deref()
    }

    /// The certificate that it shows: another one on each disk.
    pub(crate) fn certificate(&self) -> [u8; 32] {
        match self.spec.disks.boots() {
            Edition(0) => CERTIFICATE,
            Edition(number) => [u8::try_from(number).unwrap(); 32],
        }
    }

    /// The rules of `agent/src/instance/plan.rs`.
    pub(crate) fn refuses(&self, wanted: &InstanceSpec) -> Option<Failure> {
        let own = self.disks.get(&wanted.disks.system)?;
        let shrinks = wanted.disk < own.size && self.spec.disks.system == wanted.disks.system;
        shrinks.then(|| Failure::new(Reason::DiskTooSmall, "a disk only grows").with_field("spec.disk_gib"))
    }

    pub(crate) fn follow(&mut self, wanted: &InstanceSpec) {
        let fresh = || Disk { size: wanted.disk, password: None, host_name: HostName::new("template").unwrap() };
        for edition in [Some(wanted.disks.system), wanted.disks.rescue].into_iter().flatten() {
            if let Entry::Vacant(missing) = self.disks.entry(edition) {
                missing.insert(fresh());
                *self.born.entry(edition).or_default() += 1;
            }
        }
        let own = self.disks.get_mut(&wanted.disks.system).unwrap();
        own.size = own.size.max(wanted.disk);
        let size = |spec: &InstanceSpec| (spec.vcpu, spec.memory, spec.disk, spec.disks.boots());
        let runs = wanted.effective_power() == DesiredPower::On;
        if size(&self.spec) != size(wanted) || !runs {
            self.sessions.clear();
        }
        self.spec = wanted.clone();
        (self.running, self.forwarded) = (runs, !wanted.suspended);
        self.disks.retain(|edition, _| wanted.disks.needs(*edition));
        self.personalise();
    }

    /// A guest that runs has the names that are wanted.
    fn personalise(&mut self) {
        if self.running {
            self.disks.get_mut(&self.spec.disks.boots()).unwrap().host_name = self.spec.guest.host_name.clone();
        }
    }

    pub(crate) fn power(&mut self, action: PowerAction) -> OperationState {
        if self.spec.suspended && action != PowerAction::Stop {
            return OperationState::Failed(Failure::new(Reason::Conflict, "suspended"));
        }
        self.running = action != PowerAction::Stop;
        self.spec.power = if self.running { DesiredPower::On } else { DesiredPower::Off };
        if action != PowerAction::Start {
            self.sessions.clear();
        }
        self.personalise();
        OperationState::Succeeded
    }
}

/// A desktop session.
pub(crate) fn session(login: &LoginName, id: &str) -> GuestSession {
    GuestSession { id: id.to_owned(), login_name: login.clone(), started_at: None }
}
