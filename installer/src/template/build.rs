//! Carries a plan out: everything happens in one folder that vanishes, the results appear whole at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nemordp_types::TemplateDigest;
use nix::unistd::geteuid;
use tokio_util::sync::CancellationToken;

use crate::error::InstallerError;
use crate::progress::{OutputFormat, Progress};
use crate::system::files::{self, Scratch};
use crate::system::tool::{SEARCH_PATH, TEMPLATE_TOOLS, require};
use crate::template::plan::{Plan, Step};
use crate::template::system_tree::{self, BuiltSystem, Folders};
use crate::template::{disk, manifest};

/// A finished disk that still lies in the build's folder.
struct Finished {
    qcow2: PathBuf,
    system: BuiltSystem,
}

/// Builds the template; on failure or interrupt nothing half-made stays.
pub async fn execute(plan: &Plan, output: OutputFormat, interrupt: &CancellationToken) -> Result<(), InstallerError> {
    let mut progress = Progress::new(output, plan.steps.len());
    let running = progress.begin(Step::Check.name(), &plan.describe(Step::Check));
    require(TEMPLATE_TOOLS, SEARCH_PATH)?;
    if !geteuid().is_root() {
        return Err(InstallerError::NotRoot);
    }
    let out = prepare_out(plan)?;
    // The lock is held until the end; it goes with the process, whatever ends it.
    let _lock = lock(&out)?;
    let scratch = Scratch::make(out.join(format!(".{}.building", plan.recipe.name)))?;
    progress.finish(&running);

    let finished = build(plan, &scratch.path().join("1"), &mut progress, interrupt).await?;
    let digest = publish(plan, &finished, &mut progress, interrupt)?;
    if plan.request.verify_reproducible {
        verify(plan, digest, &scratch, &mut progress, interrupt).await?;
    }
    scratch.remove()?;
    report(plan, digest, &progress)
}

fn prepare_out(plan: &Plan) -> Result<PathBuf, InstallerError> {
    let out = &plan.request.out;
    fs::create_dir_all(out).map_err(|error| InstallerError::io("make", out, error))?;
    if let Some(cache) = &plan.request.cache {
        fs::create_dir_all(cache).map_err(|error| InstallerError::io("make", cache, error))?;
    }
    let out = fs::canonicalize(out).map_err(|error| InstallerError::io("find", out, error))?;
    let (needed, free) = (plan.room_needed(), files::free_space(&out)?);
    if free.0 < needed.0 {
        return Err(InstallerError::no_room(&out, needed, free, "--out"));
    }
    Ok(out)
}

/// The folder itself is locked, so that no lock file stays behind.
fn lock(out: &Path) -> Result<File, InstallerError> {
    let folder = File::open(out).map_err(|error| InstallerError::io("open", out, error))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(fs::TryLockError::WouldBlock) => Err(InstallerError::Busy(out.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(InstallerError::io("lock", out, error)),
    }
}

/// The steps from packages to a qcow2, in a folder.
async fn build(
    plan: &Plan,
    work: &Path,
    progress: &mut Progress,
    interrupt: &CancellationToken,
) -> Result<Finished, InstallerError> {
    let folders = Folders::beneath(work);
    let running = progress.begin(Step::System.name(), &plan.describe(Step::System));
    system_tree::make(plan, &folders, progress, interrupt).await?;
    progress.finish(&running);

    let running = progress.begin(Step::Seal.name(), &plan.describe(Step::Seal));
    let system = system_tree::seal(plan, &folders, interrupt)?;
    progress.finish(&running);

    let running = progress.begin(Step::Disk.name(), &plan.describe(Step::Disk));
    let finished = to_disk(plan, &folders, system, interrupt).await?;
    progress.finish(&running);
    Ok(finished)
}

async fn to_disk(
    plan: &Plan,
    folders: &Folders,
    system: BuiltSystem,
    interrupt: &CancellationToken,
) -> Result<Finished, InstallerError> {
    let (raw, qcow2) = (folders.work.join("disk.raw"), folders.work.join("disk.qcow2"));
    let (recipe, staging) = (&plan.recipe, &plan.request.staging);
    disk::make(&recipe.disk, &recipe.boot, &folders.root, &raw, system.epoch, staging, interrupt).await?;
    files::remove_tree(&folders.root)?;
    disk::to_qcow2(&raw, &qcow2, interrupt).await?;
    files::remove_tree(&raw)?;
    Ok(Finished { qcow2, system })
}

/// Gives disk and manifests their final names; the template's manifest comes last: where it is, the rest is complete.
fn publish(
    plan: &Plan,
    finished: &Finished,
    progress: &mut Progress,
    interrupt: &CancellationToken,
) -> Result<TemplateDigest, InstallerError> {
    let running = progress.begin(Step::Publish.name(), &plan.describe(Step::Publish));
    let (digest, size) = files::digest(&finished.qcow2, interrupt)?;
    let facts = serde_json::to_string_pretty(&manifest::template(&plan.recipe, digest, size));
    let facts = facts.map_err(|error| InstallerError::Defect(error.to_string()))?;
    let beside = |suffix: &str| finished.qcow2.with_extension(suffix);
    files::write(&beside("packages"), finished.system.packages.as_bytes(), 0o644)?;
    files::write(&beside("json"), format!("{facts}\n").as_bytes(), 0o644)?;
    files::set_mode(&finished.qcow2, 0o644)?;
    // An older manifest must not stand beside a newer disk, not even for a moment.
    files::remove_tree(&plan.product("json"))?;
    for suffix in ["qcow2", "packages", "json"] {
        files::publish(&beside(suffix), &plan.product(suffix))?;
    }
    progress.finish(&running);
    Ok(digest)
}

/// The second build takes the first one's packages from the cache, so that only the building can differ.
async fn verify(
    plan: &Plan,
    first: TemplateDigest,
    scratch: &Scratch,
    progress: &mut Progress,
    interrupt: &CancellationToken,
) -> Result<(), InstallerError> {
    let running = progress.begin(Step::Verify.name(), &plan.describe(Step::Verify));
    let mut request = plan.request.clone();
    request.offline = true;
    let again = Plan {
        request,
        bundle: plan.bundle.clone(),
        recipe: plan.recipe.clone(),
        sources: plan.sources.clone(),
        steps: plan.steps.clone(),
    };
    let folders = Folders::beneath(&scratch.path().join("2"));
    system_tree::make(&again, &folders, progress, interrupt).await?;
    let system = system_tree::seal(&again, &folders, interrupt)?;
    let finished = to_disk(&again, &folders, system, interrupt).await?;
    let (second, _) = files::digest(&finished.qcow2, interrupt)?;
    if first != second {
        let kept_second = plan.product("second.qcow2");
        files::publish(&finished.qcow2, &kept_second)?;
        return Err(InstallerError::NotReproducible { first, second, kept_first: plan.product("qcow2"), kept_second });
    }
    progress.finish(&running);
    Ok(())
}

fn report(plan: &Plan, digest: TemplateDigest, progress: &Progress) -> Result<(), InstallerError> {
    let disk = plan.product("qcow2");
    let verified = plan.request.verify_reproducible;
    let second = if verified { "\nbuilt twice, the digests are the same" } else { "" };
    let text = format!("{} {digest}\n{}{second}", plan.recipe.name, disk.display());
    let fields = serde_json::json!({
        "name": plan.recipe.name, "digest": digest, "disk": disk, "manifest": plan.product("json"),
        "packages": plan.product("packages"), "verified_reproducible": verified,
    });
    progress.complete(&text, &fields);
    Ok(())
}
