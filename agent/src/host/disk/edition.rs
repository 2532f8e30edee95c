//! The disks of one instance by their edition: which are there, growing one, removing those that nobody needs.

use std::path::Path;

use nemordp_types::instance::{DiskSet, Edition};
use nemordp_types::{Bytes, Failure, InstanceId, StorageClass};

use super::{Disks, file, full_disk, qemu_img, utf8};

/// The name of a disk's file; the first edition has none in it.
pub(super) fn file_name(instance: InstanceId, edition: Edition) -> String {
    match edition {
        Edition(0) => format!("{instance}.qcow2"),
        Edition(number) => format!("{instance}.{number}.qcow2"),
    }
}

/// The edition of an instance's disk by its file's name; none for any other file.
fn edition_of(instance: InstanceId, name: &str) -> Option<Edition> {
    let middle = name.strip_prefix(&instance.to_string())?.strip_suffix("qcow2")?;
    match middle.strip_prefix('.')?.strip_suffix('.') {
        None if middle == "." => Some(Edition(0)),
        None => None,
        Some(number) => number.parse().ok().map(Edition).filter(|edition| edition.0 > 0),
    }
}

impl Disks {
    /// The disks of an instance that are there, sorted.
    pub async fn editions(&self, instance: InstanceId, class: &StorageClass) -> Result<Vec<Edition>, Failure> {
        let names = file::names(&self.pool(class)?.path).await?;
        let mut found: Vec<Edition> = names.iter().filter_map(|name| edition_of(instance, name)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Grows a disk whose domain is off; nothing when it is as large already. The guest grows its file system at boot.
    pub async fn grow(
        &self,
        instance: InstanceId,
        class: &StorageClass,
        edition: Edition,
        size: Bytes,
    ) -> Result<(), Failure> {
        let _turn = self.pool(class)?.turns.acquire().await.map_err(Failure::internal)?;
        let disk = self.files(instance, class, edition)?.disk;
        if qemu_img::virtual_size_of(&disk).await >= size {
            return Ok(());
        }
        let size = size.0.to_string();
        let grown = self.qemu_img(&qemu_img::grow(utf8(&disk)?, &size)).await;
        grown.map(drop).map_err(|failure| full_disk(failure, class))
    }

    /// Removes the disks of an instance that the set does not need.
    pub async fn tidy(&self, instance: InstanceId, class: &StorageClass, needed: &DiskSet) -> Result<(), Failure> {
        let path = self.pool(class)?.path.clone();
        let _turn = self.pool(class)?.turns.acquire().await.map_err(Failure::internal)?;
        for edition in self.editions(instance, class).await? {
            if !needed.needs(edition) {
                remove(&path, &file_name(instance, edition)).await?;
            }
        }
        Ok(())
    }

    /// Removes every disk of an instance, half-made ones too.
    pub(super) async fn remove_all(&self, instance: InstanceId, class: &StorageClass) -> Result<(), Failure> {
        let path = &self.pool(class)?.path;
        for name in file::names(path).await? {
            if edition_of(instance, name.strip_suffix(".part").unwrap_or(&name)).is_some() {
                file::remove(&path.join(name)).await?;
            }
        }
        Ok(())
    }
}

async fn remove(pool: &Path, name: &str) -> Result<(), Failure> {
    file::remove(&pool.join(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_leads_back_to_its_edition_and_nobody_elses_does() {
        let id = InstanceId::from_uuid(uuid::Uuid::from_u128(7));
        for edition in [Edition(0), Edition(1), Edition(42)] {
            assert_eq!(edition_of(id, &file_name(id, edition)), Some(edition));
        }
        let other = InstanceId::from_uuid(uuid::Uuid::from_u128(8));
        for name in [
            file_name(other, Edition(3)),
            format!("{id}.qcow2.part"),
            format!("{id}.seed.img"),
            format!("{id}.0.qcow2"),
            format!("{id}.x.qcow2"),
            format!("{id}qcow2"),
        ] {
            assert_eq!(edition_of(id, &name), None, "{name}");
        }
    }
}
