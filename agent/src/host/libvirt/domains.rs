//! Domains: finding those that are ours, and changing nothing else.
//!
//! Every change takes the domain's own lock and reads the mark again under it.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::instance::{DiskSet, InstanceSpec, Mark, ObservedPower};
use nemordp_types::template::Personalisation;
use nemordp_types::{Failure, InstanceId, Reason};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::LibvirtHost;
use super::domain_xml::{self, Surroundings, domain_name};
use super::error;
use super::parse::{self, OurDomain, our_domain};
use crate::host::HostInstance;
use crate::host::disk::qemu_img::virtual_size_of;
use crate::host::seed;

/// How long a request to shut down is given to be refused, before the power button is tried.
const SHUTDOWN_ANSWER: Duration = Duration::from_secs(1);

/// What stands under an instance's id.
enum Found {
    Nothing,
    Foreign,
    Ours(Box<(Domain, OurDomain, ObservedPower)>),
}

pub(super) fn no_domain<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error::is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn power_of(state: sys::virDomainState) -> ObservedPower {
    match state {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => ObservedPower::Running,
        sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => ObservedPower::Paused,
        sys::VIR_DOMAIN_SHUTOFF => ObservedPower::Off,
        _ => ObservedPower::Failed,
    }
}

fn not_ours(instance: InstanceId) -> Failure {
    Failure::new(Reason::NotOurs, "a domain that is not this installation's has this id or name; it stays as it is")
        .with_context(domain_name(instance))
}

fn is_active(power: ObservedPower) -> bool {
    match power {
        ObservedPower::Running | ObservedPower::Paused | ObservedPower::Failed => true,
        ObservedPower::Off | ObservedPower::Absent => false,
    }
}

impl LibvirtHost {
    /// Reads what stands under the instance's id or name.
    async fn look(&self, instance: InstanceId) -> Result<Found, Failure> {
        let installation = self.installation;
        self.connection
            .call(move |connect| {
                let Some(domain) = no_domain(Domain::lookup_by_uuid(connect, instance.as_uuid()))? else {
                    let named = no_domain(Domain::lookup_by_name(connect, &domain_name(instance)))?;
                    return Ok(named.map_or(Found::Nothing, |_| Found::Foreign));
                };
                let Some(xml) = no_domain(domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))? else {
                    return Ok(Found::Nothing);
                };
                let Some(ours) = our_domain(&xml, installation) else { return Ok(Found::Foreign) };
                let power = power_of(domain.get_state()?.0);
                Ok(Found::Ours(Box::new((domain, ours, power))))
            })
            .await
    }

    async fn ours(&self, instance: InstanceId) -> Result<(Domain, OurDomain, ObservedPower), Failure> {
        match self.look(instance).await? {
            Found::Ours(found) => Ok(*found),
            Found::Foreign => Err(not_ours(instance)),
            Found::Nothing => {
                Err(Failure::new(Reason::NotFound, "the instance is not on this node")
                    .with_context(domain_name(instance)))
            }
        }
    }

    /// The specification of an instance of ours.
    pub(super) async fn spec_of(&self, instance: InstanceId) -> Result<InstanceSpec, Failure> {
        self.ours(instance).await.map(|(_, ours, _)| ours.spec)
    }

    async fn observed(&self, ours: OurDomain, power: ObservedPower) -> HostInstance {
        let (spec, id) = (&ours.spec, ours.mark.instance_id);
        let disk = match self.disks.files(id, &spec.storage_class, spec.disks.system) {
            Ok(files) => virtual_size_of(&files.disk).await,
            Err(_) => nemordp_types::Bytes::ZERO,
        };
        let started_at = if is_active(power) { self.started_at(ours.mark.instance_id).await } else { None };
        let OurDomain { mark, spec, vcpu, memory, gpus, .. } = ours;
        HostInstance { mark, spec, power, started_at, vcpu, memory, disk, gpus }
    }

    /// libvirt writes a guest's process id when it starts it, and does not know the time otherwise.
    async fn started_at(&self, instance: InstanceId) -> Option<Timestamp> {
        let path = self.settings.runtime_dir.join(format!("{}.pid", domain_name(instance)));
        let written = tokio::fs::metadata(path).await.ok()?.modified().ok()?;
        Timestamp::try_from(written).ok()
    }

    pub(super) async fn list(&self) -> Result<Vec<HostInstance>, Failure> {
        let installation = self.installation;
        let found = self
            .connection
            .call(move |connect| {
                let mut found = Vec::new();
                for domain in connect.list_all_domains(0)? {
                    let Some(xml) = no_domain(domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))? else { continue };
                    let Some(ours) = our_domain(&xml, installation) else { continue };
                    let Some((state, _)) = no_domain(domain.get_state())? else { continue };
                    found.push((ours, power_of(state)));
                }
                Ok(found)
            })
            .await?;
        let mut instances = Vec::with_capacity(found.len());
        for (ours, power) in found {
            instances.push(self.observed(ours, power).await);
        }
        instances.sort_by_key(|instance| instance.mark.instance_id);
        Ok(instances)
    }

    pub(super) async fn find(&self, instance: InstanceId) -> Result<Option<HostInstance>, Failure> {
        match self.look(instance).await? {
            Found::Ours(found) => {
                let (_, ours, power) = *found;
                Ok(Some(self.observed(ours, power).await))
            }
            Found::Foreign | Found::Nothing => Ok(None),
        }
    }

    /// Refuses when the disk may be in use, or when whoever has this id is not ours.
    pub(super) async fn require_disk_unused(&self, instance: InstanceId) -> Result<(), Failure> {
        match self.look(instance).await? {
            Found::Foreign => Err(not_ours(instance)),
            Found::Ours(found) if is_active(found.2) => {
                Err(Failure::new(Reason::Conflict, "the instance runs; stop it before its disk is changed"))
            }
            Found::Ours(_) | Found::Nothing => Ok(()),
        }
    }

    /// Refuses unless the domain that stands here, and the guest that runs, use nothing but these disks.
    pub(super) async fn require_defined_on(&self, instance: InstanceId, disks: &DiskSet) -> Result<(), Failure> {
        match self.look(instance).await? {
            Found::Foreign => Err(not_ours(instance)),
            Found::Ours(found) if !disks.needs(found.1.spec.disks.boots()) => {
                Err(Failure::new(Reason::Conflict, "the instance boots from a disk that is to be removed"))
            }
            Found::Ours(_) | Found::Nothing => Ok(()),
        }
    }

    /// Plugs an instance's own disk into its rescue system, which runs. It is plugged in live and never defined: two
    /// clones of one template have the same file system label, and a system that is still booting could take the wrong one.
    pub(super) async fn attach_own_disk(&self, instance: InstanceId) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        let (_, ours, power) = self.ours(instance).await?;
        if ours.spec.disks.rescue.is_none() || !is_active(power) {
            return Ok(());
        }
        let class = &ours.spec.storage_class;
        let own = self.disks.files(instance, class, ours.spec.disks.system)?.disk;
        let kvm = self.settings.acceleration == nemordp_types::node::Acceleration::Kvm;
        let xml = domain_xml::own_disk(&own, kvm && self.disks.bypasses_cache(class)?);
        self.connection
            .call(move |connect| {
                let domain = Domain::lookup_by_uuid(connect, instance.as_uuid())?;
                let running = domain.get_xml_desc(0)?;
                if parse::has_disk(&running, domain_xml::OWN_DISK_TARGET) {
                    return Ok(());
                }
                domain.attach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE).map(drop)
            })
            .await
    }

    pub(super) async fn define(&self, mark: &Mark, spec: &InstanceSpec) -> Result<(), Failure> {
        let instance = mark.instance_id;
        if mark.installation_id != self.installation {
            return Err(not_ours(instance));
        }
        let _lock = self.connection.lock_domain(instance).await;
        match self.look(instance).await? {
            Found::Foreign => return Err(not_ours(instance)),
            Found::Ours(_) | Found::Nothing => {}
        }
        match spec.template.personalisation {
            Personalisation::CloudInit => {
                let image = seed::image(instance, &spec.guest)?;
                self.disks.write_seed(instance, &spec.storage_class, &image).await?;
            }
            Personalisation::GuestAgent => {}
        }
        let files = self.disks.files(instance, &spec.storage_class, spec.disks.boots())?;
        let giving_gpus = if spec.gpus.is_some() { Some(self.gpus.lock().await) } else { None };
        let gpus = self.choose_gpus(instance, spec.gpus.as_ref()).await?;
        let serial_log = self.serial_log(instance);
        let xml = domain_xml::domain_xml(
            mark,
            spec,
            &Surroundings {
                disk: &files.disk,
                seed: &files.seed,
                bypasses_cache: self.disks.bypasses_cache(&spec.storage_class)?,
                acceleration: self.settings.acceleration,
                emulator: self.settings.emulator.as_deref(),
                serial_log: serial_log.as_deref(),
                bridge: &self.network.bridge,
                gpus: &gpus,
            },
        )?;
        let defined = self
            .connection
            .call(move |connect| {
                // After a reboot only the agent decides what starts, whatever somebody set by hand meanwhile.
                Domain::define_xml(connect, &xml)?.set_autostart(false).map(drop)
            })
            .await;
        drop(giving_gpus);
        defined
    }

    pub(super) fn serial_log(&self, instance: InstanceId) -> Option<std::path::PathBuf> {
        self.settings
            .serial_log_dir
            .as_deref()
            .map(|dir: &Path| dir.join(format!("{}.serial.log", domain_name(instance))))
    }

    pub(super) async fn undefine(&self, instance: InstanceId) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        let found = match self.look(instance).await? {
            Found::Nothing => return Ok(()),
            Found::Foreign => return Err(not_ours(instance)),
            Found::Ours(found) => *found,
        };
        if is_active(found.2) {
            return Err(Failure::new(Reason::Conflict, "the instance runs; stop it before it is removed"));
        }
        self.connection
            .call(move |connect| {
                let Some(domain) = no_domain(Domain::lookup_by_uuid(connect, instance.as_uuid()))? else {
                    return Ok(());
                };
                let with = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
                domain.undefine_flags(with)
            })
            .await
    }

    pub(super) async fn start(&self, instance: InstanceId) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        self.ours(instance).await?;
        self.change(instance, |domain, state| match state {
            sys::VIR_DOMAIN_SHUTOFF | sys::VIR_DOMAIN_CRASHED => domain.create().map(drop),
            sys::VIR_DOMAIN_PAUSED => domain.resume().map(drop),
            _ => Ok(()),
        })
        .await
    }

    pub(super) async fn destroy(&self, instance: InstanceId) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        match self.look(instance).await? {
            Found::Nothing => return Ok(()),
            Found::Foreign => return Err(not_ours(instance)),
            Found::Ours(_) => {}
        }
        self.change(instance, |domain, state| match state {
            sys::VIR_DOMAIN_SHUTOFF => Ok(()),
            _ => domain.destroy(),
        })
        .await
    }

    /// Asks the guest through its agent; a guest that obeys answers only when it is off, so that silence counts as
    /// obeying, and only a refusal leads to the power button.
    pub(super) async fn shutdown(&self, instance: InstanceId) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        let (_, _, power) = self.ours(instance).await?;
        if !is_active(power) {
            return Ok(());
        }
        let asked = self.connection.agent_call(instance, SHUTDOWN_ANSWER, |domain, _| {
            domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT).map(drop)
        });
        let refused = match asked.await {
            Ok(()) => false,
            Err(failure) => failure.context.is_some(),
        };
        if !refused {
            return Ok(());
        }
        self.change(instance, |domain, state| match state {
            sys::VIR_DOMAIN_SHUTOFF => Ok(()),
            _ => domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN).map(drop),
        })
        .await
    }

    /// Runs a change on the domain with its state of that instant; safe to repeat, because the state is read anew.
    async fn change<F>(&self, instance: InstanceId, change: F) -> Result<(), Failure>
    where
        F: Fn(&Domain, sys::virDomainState) -> Result<(), Error> + Send + 'static,
    {
        let lookup = move |connect: &Connect| {
            let domain = Domain::lookup_by_uuid(connect, instance.as_uuid())?;
            change(&domain, domain.get_state()?.0)
        };
        self.connection.call(lookup).await
    }
}
