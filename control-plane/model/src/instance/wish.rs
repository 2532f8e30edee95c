//! What somebody wants of an instance that was handed over: a pure change of the instance, or the reason why not.

use jiff::Timestamp;
use nemordp_types::instance::{DesiredPower, DiskSet, Edition, InstanceSpec};
use nemordp_types::{Bytes, Failure, Generation, GiB, HostName, MiB, Reason, Template, Vcpu};
use serde::{Deserialize, Serialize};

use super::{Instance, Lifecycle};

/// What is wanted of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// It should run.
    PowerOn,
    /// It should be off.
    PowerOff,
    /// Something is done to it that changes nothing of what it should be: a new password.
    Keep,
    /// It should have other names.
    Rename {
        /// Name of the guest.
        host_name: HostName,
    },
    /// It should be larger; what is absent stays as it is.
    Resize {
        /// Processors.
        vcpu: Option<Vcpu>,
        /// Memory.
        memory: Option<MiB>,
        /// Disk.
        disk: Option<GiB>,
    },
    /// It should begin anew on a fresh disk, with the same identity, address and endpoint.
    Reinstall {
        /// From what; the template that it was made from when absent.
        template: Option<Box<Template>>,
    },
    /// It should boot a rescue system that sees its disk.
    Rescue,
    /// It should boot from its own disk again.
    Unrescue,
    /// It should be off the network and off power, and be kept.
    Suspend,
    /// That is over.
    Unsuspend,
    /// It should be gone at a time, be off until then, and can be had back until then.
    DeleteLater {
        /// When.
        at: Timestamp,
    },
    /// It should not be deleted after all.
    Restore,
    /// It should be as it was wanted already: its node does not have it so, or may not.
    Realign,
    /// It should be gone.
    Delete,
}

impl Wish {
    /// Whether it ends whatever is under way, instead of waiting for it.
    #[must_use]
    pub const fn wins(&self) -> bool {
        matches!(self, Self::Delete | Self::DeleteLater { .. })
    }
}

/// What was wanted before a change, so that it can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// What was wanted of the node.
    pub spec: InstanceSpec,
    /// Since when it was suspended.
    pub suspended_at: Option<Timestamp>,
    /// When it was to be deleted.
    pub delete_after: Option<Timestamp>,
    /// The certificate of the guest that was there.
    pub rdp_certificate_sha256: Option<[u8; 32]>,
}

fn conflict(field: &str, message: impl Into<String>) -> Failure {
    Failure::new(Reason::Conflict, message).with_field(field)
}

/// The larger amount, or the refusal that names the field.
fn grown<T: Ord + Copy + std::fmt::Display>(field: &str, is: T, wanted: Option<T>) -> Result<T, Failure> {
    match wanted {
        Some(wanted) if wanted < is => Err(Failure::field(field, format!("use {is} or more: it only grows"))),
        Some(wanted) => Ok(wanted),
        None => Ok(is),
    }
}

impl Instance {
    /// Changes what is wanted of it; the generation rises.
    ///
    /// # Errors
    /// `conflict` when its state does not allow it, with the way out; the field at fault for a size that does not grow.
    pub fn wish(&mut self, wish: &Wish, now: Timestamp) -> Result<(), Failure> {
        self.require_active()?;
        self.allows(wish)?;
        let generation = Generation(self.generation.0 + 1);
        let edition = Edition(generation.0);
        match wish {
            Wish::PowerOn => self.spec.power = DesiredPower::On,
            Wish::PowerOff => self.spec.power = DesiredPower::Off,
            Wish::Keep => {}
            Wish::Realign => self.misaligned_at = None,
            Wish::Rename { host_name } => self.spec.guest.host_name = host_name.clone(),
            Wish::Resize { vcpu, memory, disk } => self.resize(*vcpu, *memory, *disk)?,
            Wish::Reinstall { template } => self.reinstall(template.as_deref(), edition)?,
            Wish::Rescue => {
                self.spec.disks.rescue = Some(edition);
                self.spec.power = DesiredPower::On;
            }
            Wish::Unrescue => {
                let disks = &mut self.spec.disks;
                (disks.kept, disks.rescue) = (disks.rescue, None);
                self.spec.power = DesiredPower::On;
            }
            Wish::Suspend => (self.suspended_at, self.spec.suspended) = (Some(now), true),
            Wish::Unsuspend => (self.suspended_at, self.spec.suspended) = (None, false),
            Wish::DeleteLater { at } => (self.delete_after, self.spec.suspended) = (Some(*at), true),
            Wish::Restore => (self.delete_after, self.spec.suspended) = (None, self.suspended_at.is_some()),
            Wish::Delete => self.lifecycle = self.lifecycle.to(Lifecycle::Deleting)?,
        }
        self.generation = generation;
        self.updated_at = now;
        Ok(())
    }

    /// What stands in the way, with the way out.
    fn allows(&self, wish: &Wish) -> Result<(), Failure> {
        match (self.misaligned_at.is_some(), wish) {
            (_, Wish::Realign) => return Ok(()),
            (true, wish) if !wish.wins() => {
                return Err(conflict(
                    "state",
                    "its node was fenced and has to be brought in line first: wait until the node is back",
                ));
            }
            (true | false, _) => {}
        }
        match (self.delete_after, wish) {
            (_, Wish::Delete | Wish::DeleteLater { .. }) => return Ok(()),
            (Some(_), Wish::Restore) => return Ok(()),
            (Some(at), _) => {
                return Err(conflict(
                    "delete_after",
                    format!("the instance is to be deleted at {at}: restore it first"),
                ));
            }
            (None, Wish::Restore) => {
                return Err(conflict("delete_after", "the instance is not to be deleted: there is nothing to restore"));
            }
            (None, _) => {}
        }
        match (self.suspended_at.is_some(), wish) {
            (true, Wish::Unsuspend) => return Ok(()),
            (true, Wish::Suspend) => return Err(conflict("suspended", "the instance is suspended already")),
            (true, _) => return Err(conflict("suspended", "the instance is suspended: unsuspend it first")),
            (false, Wish::Unsuspend) => return Err(conflict("suspended", "the instance is not suspended")),
            (false, _) => {}
        }
        match (self.spec.disks.rescue.is_some(), wish) {
            (true, Wish::Keep | Wish::Rename { .. } | Wish::Resize { .. } | Wish::Reinstall { .. } | Wish::Rescue) => {
                Err(conflict("rescued", "the instance runs its rescue system: end that first (unrescue)"))
            }
            (false, Wish::Unrescue) => Err(conflict("rescued", "the instance does not run a rescue system")),
            (true | false, _) => Ok(()),
        }
    }

    fn resize(&mut self, vcpu: Option<Vcpu>, memory: Option<MiB>, disk: Option<GiB>) -> Result<(), Failure> {
        let spec = &mut self.spec;
        let before = (spec.vcpu, spec.memory, spec.disk);
        let vcpu = grown("vcpu", spec.vcpu, vcpu)?;
        let memory = grown("memory_mib", spec.memory, memory)?;
        let disk = grown("disk_gib", spec.disk, disk)
            .map_err(|failure| Failure { reason: Reason::DiskTooSmall, ..failure })?;
        if (vcpu, memory, disk) == before {
            return Err(Failure::field("vcpu", "say what shall grow: vcpu, memory_mib or disk_gib"));
        }
        (spec.vcpu, spec.memory, spec.disk) = (vcpu, memory, disk);
        Ok(())
    }

    fn reinstall(&mut self, template: Option<&Template>, edition: Edition) -> Result<(), Failure> {
        let spec = &mut self.spec;
        if let Some(template) = template {
            if Bytes::from(spec.disk) < template.virtual_size {
                let least = template.virtual_size.to_gib_ceil();
                let message = format!("the template needs a disk of {least} or more: resize the instance first");
                return Err(Failure::new(Reason::DiskTooSmall, message).with_field("template"));
            }
            spec.template = template.clone();
            spec.guest.login_name = template.login_name.clone();
        }
        spec.disks = DiskSet { system: edition, rescue: None, kept: Some(spec.disks.system) };
        spec.power = DesiredPower::On;
        Ok(())
    }

    /// What a change has to remember to be taken back.
    #[must_use]
    pub fn former(&self) -> Former {
        Former {
            spec: self.spec.clone(),
            suspended_at: self.suspended_at,
            delete_after: self.delete_after,
            rdp_certificate_sha256: self.rdp_certificate_sha256,
        }
    }

    /// Takes a change back; says whether there was anything to take back. `keeps_disk`: all but the size of the disk, because
    /// it has grown on its node, or may have: no disk ever shrinks.
    pub fn take_back(&mut self, former: Former, keeps_disk: bool, now: Timestamp) -> bool {
        let mut wanted = self.clone();
        wanted.spec = former.spec;
        if keeps_disk {
            wanted.spec.disk = wanted.spec.disk.max(self.spec.disk);
        }
        wanted.suspended_at = former.suspended_at;
        wanted.delete_after = former.delete_after;
        wanted.rdp_certificate_sha256 = former.rdp_certificate_sha256;
        if wanted == *self {
            return false;
        }
        wanted.generation = Generation(self.generation.0 + 1);
        wanted.updated_at = now;
        *self = wanted;
        true
    }

    /// The change is final: what was kept for taking it back may go. Says whether there was anything.
    pub fn settle(&mut self, now: Timestamp) -> bool {
        if self.spec.disks.kept.take().is_none() {
            return false;
        }
        self.generation = Generation(self.generation.0 + 1);
        self.updated_at = now;
        true
    }
}

#[cfg(test)]
mod tests;
