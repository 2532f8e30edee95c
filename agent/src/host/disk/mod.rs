//! Disks of instances and templates as files: linked clones that wait for their turn on each kind of storage.
//!
//! ```text
//! <template_dir>/<digest>.qcow2        read-only once it was adopted
//! <pool>/<instance>.qcow2              overlay over a template: the first disk
//! <pool>/<instance>.<edition>.qcow2    a later one: reinstalled, or a rescue system's
//! <pool>/<instance>.seed.img           first-boot settings, only for cloud-init
//! <pool>/<instance>.*.part             half-made; removed when the agent opens the pool
//! ```

mod edition;
pub mod file;
pub mod qemu_img;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nemordp_types::instance::Edition;
use nemordp_types::{Bytes, Failure, InstanceId, Reason, StorageClass, Template, TemplateDigest};
use tokio::sync::Semaphore;

use super::process;
use file::Owner;

/// Longest time that a call of `qemu-img` may take; it writes a header or reads one.
const QEMU_IMG_DEADLINE: Duration = Duration::from_secs(60);

/// One kind of storage: a directory on a file system of its own.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// What kind of storage.
    pub storage_class: StorageClass,
    /// Where the disks lie; the hypervisor's user must be able to pass every directory above.
    pub path: PathBuf,
    /// Clones that run at once; the others wait in the order in which they came.
    pub clone_width: usize,
}

/// Where disks and templates lie.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// Where templates lie.
    pub template_dir: PathBuf,
    /// Kinds of storage.
    pub pools: Vec<PoolSettings>,
    /// The program.
    pub qemu_img: PathBuf,
    /// Who runs the guests; owns their disks.
    pub owner: Option<String>,
    /// What stays free on every pool: below it no clone begins.
    pub keep_free: Bytes,
}

struct Pool {
    path: PathBuf,
    turns: Semaphore,
    bypasses_cache: bool,
}

/// The node's disks.
pub struct Disks {
    template_dir: PathBuf,
    qemu_img: PathBuf,
    owner: Owner,
    keep_free: Bytes,
    pools: HashMap<StorageClass, Pool>,
}

/// The files of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceFiles {
    /// Its disk.
    pub disk: PathBuf,
    /// Its seed, where it has one.
    pub seed: PathBuf,
}

/// Room on a file system.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// All of it.
    pub physical: Bytes,
    /// What can still be written.
    pub free: Bytes,
}

impl Disks {
    /// Makes the directories and removes what an interrupted clone left behind.
    pub async fn open(settings: &DiskSettings) -> Result<Self, Failure> {
        let owner = Owner::find(settings.owner.as_deref())?;
        file::ensure_directory(&settings.template_dir).await?;
        let mut pools = HashMap::new();
        for pool in &settings.pools {
            file::ensure_directory(&pool.path).await?;
            file::remove_partial(&pool.path).await?;
            let bypasses_cache = file::bypasses_cache(&pool.path).await;
            let turns = Semaphore::new(pool.clone_width.max(1));
            let made = Pool { path: pool.path.clone(), turns, bypasses_cache };
            if pools.insert(pool.storage_class.clone(), made).is_some() {
                return Err(
                    Failure::field("storage_class", "name every storage class once").with_context(&pool.storage_class)
                );
            }
        }
        let (template_dir, qemu_img) = (settings.template_dir.clone(), settings.qemu_img.clone());
        Ok(Self { template_dir, qemu_img, owner, keep_free: settings.keep_free, pools })
    }

    fn pool(&self, class: &StorageClass) -> Result<&Pool, Failure> {
        self.pools.get(class).ok_or_else(|| {
            let mut known: Vec<&str> = self.pools.keys().map(StorageClass::as_str).collect();
            known.sort_unstable();
            Failure::field("storage_class", format!("this node has only {}", known.join(", "))).with_context(class)
        })
    }

    /// The kinds of storage, sorted.
    #[must_use]
    pub fn classes(&self) -> Vec<StorageClass> {
        let mut classes: Vec<StorageClass> = self.pools.keys().cloned().collect();
        classes.sort();
        classes
    }

    /// Whether the pool's file system lets QEMU go past the page cache (`O_DIRECT`).
    pub fn bypasses_cache(&self, class: &StorageClass) -> Result<bool, Failure> {
        self.pool(class).map(|pool| pool.bypasses_cache)
    }

    /// Where an instance's files lie: its seed, and the disk of an edition.
    pub fn files(
        &self,
        instance: InstanceId,
        class: &StorageClass,
        edition: Edition,
    ) -> Result<InstanceFiles, Failure> {
        let path = &self.pool(class)?.path;
        Ok(InstanceFiles {
            disk: path.join(edition::file_name(instance, edition)),
            seed: path.join(format!("{instance}.seed.img")),
        })
    }

    /// Room on a pool's file system.
    pub async fn room(&self, class: &StorageClass) -> Result<Room, Failure> {
        file::room(&self.pool(class)?.path).await
    }

    /// Where a template's file lies.
    #[must_use]
    pub fn template_path(&self, digest: TemplateDigest) -> PathBuf {
        self.template_dir.join(format!("{}.qcow2", digest.hex()))
    }

    /// Checks a complete file against its manifest and makes it read-only, which is the sign of an adopted template.
    pub async fn template_adopt(&self, template: &Template) -> Result<(), Failure> {
        let path = self.template_path(template.digest);
        let missing = || Failure::new(Reason::TemplateMissing, "the template is not on this node; fetch it first");
        let found = tokio::fs::metadata(&path).await.map_err(|error| missing().with_context(error))?;
        if Bytes(found.len()) != template.file_size {
            return Err(Failure::new(
                Reason::TemplateTruncated,
                "the template's file has another length; fetch it again",
            )
            .with_context(format!("{} instead of {}", found.len(), template.file_size)));
        }
        let info = self.qemu_img(&["info", "--output=json", "-f", "qcow2", utf8(&path)?]).await?;
        qemu_img::check_template(&info, template)?;
        file::make_read_only(&path).await
    }

    /// Templates whose file is complete and adopted, sorted.
    pub async fn template_list(&self) -> Result<Vec<TemplateDigest>, Failure> {
        let mut found = file::read_only_templates(&self.template_dir).await?;
        found.sort();
        Ok(found)
    }

    /// Makes the linked clone, grown to `size`; nothing when it is there.
    pub async fn clone_template(
        &self,
        instance: InstanceId,
        class: &StorageClass,
        edition: Edition,
        template: &Template,
        size: Bytes,
    ) -> Result<(), Failure> {
        let pool = self.pool(class)?;
        let files = self.files(instance, class, edition)?;
        if size < template.virtual_size {
            let least = template.virtual_size.to_gib_ceil();
            return Err(Failure::new(Reason::DiskTooSmall, format!("the template needs a disk of at least {least}"))
                .with_field("disk"));
        }
        let _turn = pool.turns.acquire().await.map_err(Failure::internal)?;
        if file::exists(&files.disk).await {
            return Ok(());
        }
        let base = self.template_path(template.digest);
        if !file::is_read_only(&base).await {
            return Err(Failure::new(Reason::TemplateMissing, "the template is not on this node; fetch it first")
                .with_context(base.display()));
        }
        self.require_room(class, &pool.path).await?;
        let part = files.disk.with_added_extension("part");
        file::remove(&part).await?;
        let size_text = size.0.to_string();
        let made = self.qemu_img(&qemu_img::create_overlay(utf8(&base)?, utf8(&part)?, &size_text)).await;
        if let Err(failure) = made {
            file::remove(&part).await?;
            return Err(full_disk(failure, class));
        }
        file::finish(&part, &files.disk, &self.owner).await.map_err(|failure| full_disk(failure, class))
    }

    async fn require_room(&self, class: &StorageClass, path: &Path) -> Result<(), Failure> {
        let room = file::room(path).await?;
        if room.free > self.keep_free {
            return Ok(());
        }
        Err(Failure::new(Reason::DiskFull, format!("the pool {class} is full; free space there or add storage"))
            .with_field("storage_class")
            .with_context(format!("{}: {} free, {} must stay free", path.display(), room.free, self.keep_free)))
    }

    /// Writes an instance's seed in one step.
    pub async fn write_seed(&self, instance: InstanceId, class: &StorageClass, image: &[u8]) -> Result<(), Failure> {
        let files = self.files(instance, class, Edition::default())?;
        let part = files.seed.with_added_extension("part");
        file::write(&part, image).await.map_err(|failure| full_disk(failure, class))?;
        file::finish(&part, &files.seed, &self.owner).await.map_err(|failure| full_disk(failure, class))
    }

    /// Removes all files of an instance; nothing when they are gone.
    pub async fn delete(&self, instance: InstanceId, class: &StorageClass) -> Result<(), Failure> {
        let pool = self.pool(class)?;
        // Behind the clones: one that is under way for this instance ends first, and leaves nothing behind.
        let _turn = pool.turns.acquire().await.map_err(Failure::internal)?;
        self.remove_all(instance, class).await?;
        let seed = self.files(instance, class, Edition::default())?.seed;
        file::remove(&seed).await?;
        file::remove(&seed.with_added_extension("part")).await
    }

    async fn qemu_img(&self, arguments: &[&str]) -> Result<String, Failure> {
        process::run(&self.qemu_img, arguments, "", QEMU_IMG_DEADLINE).await.map(|printed| printed.stdout)
    }
}

fn utf8(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::internal(format!("the path {} is not UTF-8", path.display())))
}

/// A tool that ran out of space says so only in its words.
fn full_disk(failure: Failure, class: &StorageClass) -> Failure {
    let full = failure.context.as_deref().is_some_and(|context| context.contains("No space left on device"));
    if !full {
        return failure;
    }
    Failure::new(Reason::DiskFull, format!("the pool {class} is full; free space there or add storage"))
        .with_field("storage_class")
        .with_context(failure.context.unwrap_or_default())
}
