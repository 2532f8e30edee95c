//! Packages → a folder that has the whole system, and what must hold of it.

use std::fs;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::error::InstallerError;
use crate::progress::Progress;
use crate::system::files;
use crate::system::process::{self, Invocation};
use crate::template::manifest;
use crate::template::plan::Plan;
use crate::template::recipe::Image;

/// Laid over the packages' files by mmdebstrap's hook.
const CUSTOMIZE: &str = include_str!("customize.sh");

/// Folders of a build.
#[derive(Debug)]
pub struct Folders {
    /// Everything of the build.
    pub work: PathBuf,
    /// The system.
    pub root: PathBuf,
}

impl Folders {
    /// Beneath the work folder.
    #[must_use]
    pub fn beneath(work: &Path) -> Self {
        Self { work: work.to_owned(), root: work.join("root") }
    }

    fn archives(&self) -> PathBuf {
        self.root.join("var/cache/apt/archives")
    }

    fn lists(&self) -> PathBuf {
        self.root.join("var/lib/apt/lists")
    }
}

/// What was built into the folder.
#[derive(Debug)]
pub struct BuiltSystem {
    /// Seconds since 1970 of the youngest package; the time of everything in the image.
    pub epoch: u64,
    /// Text of the package manifest.
    pub packages: String,
}

/// Makes the system. When the network fails and the cache has package lists, these are used.
pub async fn make(
    plan: &Plan,
    folders: &Folders,
    progress: &Progress,
    interrupt: &CancellationToken,
) -> Result<(), InstallerError> {
    lay_out(plan, folders)?;
    let cached = match &plan.request.cache {
        Some(cache) => !files::list(&cache.join("lists"))?.is_empty(),
        None => false,
    };
    if plan.request.offline && !cached {
        return Err(InstallerError::CacheIncomplete("it has no package lists".to_owned()));
    }
    let outcome = bootstrap(plan, folders, plan.request.offline, progress, interrupt).await;
    match outcome {
        Err(InstallerError::Process { tail, .. }) if cached && !plan.request.offline && unreachable(&tail) => {
            progress.note("the registries do not answer: going on with the cache's package lists and archives");
            files::remove_tree(&folders.root)?;
            bootstrap(plan, folders, true, progress, interrupt).await.map_err(in_cache)
        }
        other if plan.request.offline => other.map_err(in_cache),
        other => other,
    }
}

/// What APT and its methods say when nobody answers.
fn unreachable(tail: &str) -> bool {
    [
        "Failed to fetch",
        "Could not resolve",
        "Temporary failure",
        "Could not connect",
        "Unable to connect",
        "Cannot initiate",
    ]
    .iter()
    .any(|words| tail.contains(words))
}

/// Offline, an archive that cannot be fetched is one that the cache lacks.
fn in_cache(error: InstallerError) -> InstallerError {
    if let InstallerError::Process { tail, .. } = &error
        && unreachable(tail)
    {
        return InstallerError::CacheIncomplete(format!("some package archives are missing:\n{tail}\n"));
    }
    error
}

/// Writes the recipe's overlay and scripts where the hook finds them.
fn lay_out(plan: &Plan, folders: &Folders) -> Result<(), InstallerError> {
    for (path, bytes) in plan.bundle.below("files") {
        files::write(&folders.work.join("overlay").join(path), bytes, plan.recipe.mode_of(path, bytes))?;
    }
    for (path, bytes) in plan.bundle.below("scripts") {
        files::write(&folders.work.join("scripts").join(path), bytes, 0o644)?;
    }
    files::write(&folders.work.join("customize.sh"), CUSTOMIZE.as_bytes(), 0o755)?;
    // Folders above the files were made with the caller's umask; in the image they are everybody's to enter.
    let mut open = vec![folders.work.join("overlay")];
    while let Some(folder) = open.pop() {
        files::set_mode(&folder, 0o755)?;
        open.extend(files::list(&folder)?.into_iter().filter(|path| path.is_dir()));
    }
    Ok(())
}

async fn bootstrap(
    plan: &Plan,
    folders: &Folders,
    offline: bool,
    progress: &Progress,
    interrupt: &CancellationToken,
) -> Result<(), InstallerError> {
    let invocation = invocation(plan, folders, offline);
    process::run(invocation, interrupt, |line| {
        if let Some(text) = line.strip_prefix("I: ") {
            progress.message(text);
        }
    })
    .await
}

fn invocation(plan: &Plan, folders: &Folders, offline: bool) -> Invocation {
    let debian = &plan.recipe.debian;
    let mut call = Invocation::new("unshare")
        .label("mmdebstrap")
        // The mounts of the new system's /proc, /sys and /dev go with the processes, whatever ends them.
        .args([
            "--mount",
            "--propagation",
            "private",
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
        ])
        .arg(format!("--architectures={}", debian.architecture))
        .arg(format!("--include={}", debian.packages.join(",")))
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=APT::Install-Recommends \"false\""])
        .args([
            "--aptopt=Acquire::Retries \"2\"",
            "--aptopt=Acquire::http::Timeout \"30\"",
            "--dpkgopt=force-unsafe-io",
        ]);
    for pattern in &debian.exclude {
        call = call.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    for pattern in &debian.keep {
        call = call.arg(format!("--dpkgopt=path-include={pattern}"));
    }
    call = call.args(["--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt"]);
    if offline {
        call = call.arg("--skip=update");
    }
    if let Some(cache) = &plan.request.cache {
        call = call
            .env("NEMORDP_CACHE", absolute(cache))
            .env("NEMORDP_LISTS", if offline { "lists" } else { "" })
            .arg(format!("--setup-hook={FILL_FROM_CACHE}"));
    }
    call.env("NEMORDP_WORK", &folders.work)
        // The recipe's scripts make the initrd, once and with the right time.
        .env("INITRD", "No")
        // Compiled Python then has no order that changes from run to run.
        .env("PYTHONHASHSEED", "0")
        .arg("--customize-hook=sh \"$NEMORDP_WORK/customize.sh\" \"$1\" \"$NEMORDP_WORK\"")
        .arg(debian.suites.first().cloned().unwrap_or_default())
        .arg(&folders.root)
        .arg("-")
        .input(format!("{}\n", plan.sources.join("\n")))
}

/// Puts the cache's archives, and offline its package lists, where APT looks for them.
const FILL_FROM_CACHE: &str = "mkdir -p \"$1/var/cache/apt/archives\" \"$1/var/lib/apt/lists\"; \
    for deb in \"$NEMORDP_CACHE\"/debs/*.deb; do [ ! -e \"$deb\" ] || cp \"$deb\" \"$1/var/cache/apt/archives/\"; done; \
    [ -z \"$NEMORDP_LISTS\" ] || cp \"$NEMORDP_CACHE\"/lists/* \"$1/var/lib/apt/lists/\"";

fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Takes archives and lists out of the system (into the cache, if there is one), writes the package manifest, and checks
/// what the recipe demands of the image.
pub fn seal(plan: &Plan, folders: &Folders, interrupt: &CancellationToken) -> Result<BuiltSystem, InstallerError> {
    let packages = manifest::packages(&files::read_text(&folders.work.join("packages"))?)?;
    let archives = manifest::archives(&packages, &folders.archives())?;
    let text = manifest::package_lines(&packages, &archives, interrupt)?;
    if let Some(cache) = &plan.request.cache {
        files::keep_copies(&archives, &cache.join("debs"), interrupt)?;
        let lists: Vec<PathBuf> = files::list(&folders.lists())?
            .into_iter()
            .filter(|path| path.is_file() && !path.ends_with("lock"))
            .collect();
        files::keep_copies(&lists, &cache.join("lists"), interrupt)?;
    }
    for folder in [
        folders.lists(),
        folders.archives(),
        folders.root.join("run"),
        folders.root.join("dev"),
        folders.root.join("tmp"),
    ] {
        files::clear_dir(&folder)?;
    }
    for cache in ["pkgcache.bin", "srcpkgcache.bin"] {
        files::remove_tree(&folders.root.join("var/cache/apt").join(cache))?;
    }
    check(&plan.recipe.image, &folders.root)?;
    let epoch = files::read_text(&folders.work.join("epoch"))?;
    let epoch =
        epoch.trim().parse().map_err(|_| InstallerError::Defect(format!("the packages' time reads {epoch:?}")))?;
    Ok(BuiltSystem { epoch, packages: text })
}

/// What every clone would share must not be in the image.
fn check(image: &Image, root: &Path) -> Result<(), InstallerError> {
    let unsealed = |field, path: &Path, problem| {
        let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
        InstallerError::Unsealed { field, path, problem }
    };
    for pattern in &image.absent {
        let full = root.join(pattern);
        let defect = |problem: &dyn std::fmt::Display| InstallerError::Recipe {
            file: "recipe.toml".to_owned(),
            field: "image.absent".to_owned(),
            fix: format!("{pattern:?} is no usable pattern: {problem}"),
        };
        let text = full.to_str().ok_or_else(|| defect(&"the build folder's name is not UTF-8"))?;
        if let Some(found) = glob::glob(text).map_err(|error| defect(&error))?.next() {
            let found = found
                .map_err(|error| InstallerError::io("list", error.path(), std::io::Error::other(error.to_string())))?;
            return Err(unsealed("absent", &found, "must not be in the image"));
        }
    }
    for path in &image.empty {
        let full = root.join(path);
        match fs::symlink_metadata(&full) {
            Ok(found) if found.is_file() && found.len() == 0 => {}
            Ok(_) => return Err(unsealed("empty", &full, "must be an empty file")),
            Err(_) => return Err(unsealed("empty", &full, "is missing")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clones_would_share_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let image = Image {
            absent: vec!["etc/ssh/ssh_host_*".to_owned()],
            empty: vec!["etc/machine-id".to_owned()],
            modes: std::collections::BTreeMap::new(),
        };
        assert!(check(&image, root).unwrap_err().to_string().contains("image.empty: etc/machine-id is missing"));
        files::write(&root.join("etc/machine-id"), b"", 0o444).unwrap();
        check(&image, root).unwrap();
        files::write(&root.join("etc/ssh/ssh_host_rsa_key"), b"k", 0o600).unwrap();
        let error = check(&image, root).unwrap_err().to_string();
        assert!(error.contains("image.absent: etc/ssh/ssh_host_rsa_key must not"), "{error}");
        fs::remove_file(root.join("etc/ssh/ssh_host_rsa_key")).unwrap();
        files::write(&root.join("etc/machine-id"), b"x", 0o444).unwrap();
        assert!(check(&image, root).is_err());
    }
}
