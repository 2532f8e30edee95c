//! The templates and disks of the simulated machine.

use std::path::PathBuf;
use std::time::Duration;

use nemordp_types::instance::{Edition, InstanceSpec};
use nemordp_types::{Failure, InstanceId, Reason, StorageClass, Template, TemplateDigest};

use super::machine::{Machine, broken};
use super::state::{Disk, Instance};

fn no_room() -> Failure {
    Failure::new(Reason::DiskFull, "the pool has no room for the disk: make room, or place it elsewhere")
}

impl Machine {
    pub(super) fn template_path(&self, digest: TemplateDigest) -> PathBuf {
        self.folder.join("templates").join(format!("{}.qcow2", digest.hex()))
    }

    pub(super) fn template_adopt(&self, template: &Template) -> Result<(), Failure> {
        let path = self.template_path(template.digest);
        let length = std::fs::metadata(&path).map_err(|error| broken(&path, &error))?.len();
        if length != template.file_size.0 || self.faults.is_template_corrupt() {
            std::fs::remove_file(&path).map_err(|error| broken(&path, &error))?;
            return Err(Failure::new(
                Reason::TemplateDigestMismatch,
                "the template's file is not what its manifest says: register the template again",
            )
            .with_field("template"));
        }
        self.world().adopted.insert(template.digest);
        Ok(())
    }

    pub(super) fn template_list(&self) -> Result<Vec<TemplateDigest>, Failure> {
        Ok(self.world().adopted.iter().copied().collect())
    }

    pub(super) async fn disk_clone(&self, id: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        let wanted = [Some(spec.disks.system), spec.disks.rescue].into_iter().flatten();
        let there = self.disk_list(id, &spec.storage_class);
        let missing: Vec<Edition> = wanted.filter(|edition| !there.contains(edition)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(self.config.clone_delay_ms)).await;
        {
            let world = self.world();
            if !world.adopted.contains(&spec.template.digest) {
                return Err(Failure::new(
                    Reason::TemplateMissing,
                    "the template is not on this node: prepare it first",
                ));
            }
            let pool = self.pools.iter().find(|pool| pool.storage_class == spec.storage_class).ok_or_else(|| {
                Failure::field("storage_class", "this node has no such pool: use one of its inventory")
            })?;
            let others = world.reserved(&spec.storage_class, Some(id));
            if self.faults.is_disk_full() || others + spec.disk.0 > pool.size_gib.0 {
                return Err(no_room());
            }
        }
        self.change(id, |instance| {
            for edition in missing {
                let fresh = || Disk::fresh(spec.storage_class.clone(), spec.disk);
                instance.disks.entry(edition).or_insert_with(fresh);
            }
            Ok(())
        })
    }

    pub(super) fn disk_list(&self, id: InstanceId, class: &StorageClass) -> Vec<Edition> {
        let world = self.world();
        let disks = world.instances.get(&id).into_iter().flat_map(|instance| &instance.disks);
        disks.filter(|(_, disk)| disk.storage_class == *class).map(|(edition, _)| *edition).collect()
    }

    pub(super) fn disk_grow(&self, id: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        self.require_off(id)?;
        self.change(id, |instance| {
            if self.faults.is_disk_full() {
                return Err(no_room());
            }
            if let Some(disk) = instance.disks.get_mut(&spec.disks.system) {
                disk.size = disk.size.max(spec.disk);
            }
            Ok(())
        })
    }

    pub(super) fn disk_tidy(&self, id: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        self.change(id, |instance| {
            instance.disks.retain(|edition, _| spec.disks.needs(*edition));
            Ok(())
        })
    }

    pub(super) fn disk_attach(&self, id: InstanceId) -> Result<(), Failure> {
        self.change(id, |instance| {
            let rescued = instance.running().is_some_and(|domain| domain.spec.disks.rescue.is_some());
            instance.attached = rescued;
            Ok(())
        })
    }

    /// Whether a rescue system sees the instance's own disk.
    pub(super) fn is_attached(&self, id: InstanceId) -> bool {
        self.world().instances.get(&id).is_some_and(|instance| instance.attached)
    }

    pub(super) fn disk_delete(&self, id: InstanceId, class: &StorageClass) -> Result<(), Failure> {
        self.change(id, |instance| {
            instance.disks.retain(|_, disk| disk.storage_class != *class);
            Ok(())
        })
    }

    fn require_off(&self, id: InstanceId) -> Result<(), Failure> {
        match self.world().instances.get(&id).and_then(Instance::running) {
            Some(_) => Err(Failure::new(Reason::HostFailure, "the domain runs: cut its power first")),
            None => Ok(()),
        }
    }
}
