//! What can go wrong in the installer, as one closed list; each message names the fix.

use std::io;
use std::path::{Path, PathBuf};

use nemordp_types::{Bytes, Failure, Reason, TemplateDigest};

/// Why the installer stopped.
#[derive(Debug, thiserror::Error)]
pub enum InstallerError {
    /// No recipe of this name.
    #[error("name: there is no recipe {name:?}; use one of {known}, or name a recipe's folder with --recipe")]
    UnknownRecipe {
        /// What was asked for.
        name: String,
        /// The recipes that the program carries.
        known: String,
    },
    /// The recipe cannot be used.
    #[error("{file}: {field}: {fix}")]
    Recipe {
        /// Which file of the recipe.
        file: String,
        /// The key at fault.
        field: String,
        /// What to write instead.
        fix: String,
    },
    /// The recipe is not TOML of the expected form; the parser names line and key.
    #[error("{file}: {source}")]
    RecipeSyntax {
        /// Which file.
        file: String,
        /// The parser's words.
        source: Box<toml::de::Error>,
    },
    /// Packages are unpacked with their owners, which only root can do.
    #[error("building a template needs root: run it with sudo, or as root in a container")]
    NotRoot,
    /// Programs are missing.
    #[error("missing: {missing}; install: apt-get install {packages}")]
    ToolMissing {
        /// The programs.
        missing: String,
        /// The Debian packages that have them.
        packages: String,
    },
    /// The machine's APT sources do not have a suite.
    #[error(
        "debian.suites: no APT source of this machine has {suite} with {components}; add it to /etc/apt/sources.list.d, or name another file with --sources"
    )]
    SuiteMissing {
        /// Which suite.
        suite: String,
        /// With these components.
        components: String,
    },
    /// Not enough room.
    #[error("{path}: no room left{detail}; free some space or choose another folder with {option}")]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// How much is needed and there, if known.
        detail: String,
        /// The option that chooses the folder.
        option: &'static str,
    },
    /// Another build runs in the same folder.
    #[error("--out {0}: another build runs there; wait for it or choose another folder")]
    Busy(PathBuf),
    /// Offline, and the cache does not have what is needed.
    #[error("--cache: {0}; build once with the network and the same --cache")]
    CacheIncomplete(String),
    /// A program failed.
    #[error("{program} failed ({status}); its last words:\n{tail}")]
    Process {
        /// Which program.
        program: String,
        /// How it ended.
        status: String,
        /// Its last lines.
        tail: String,
    },
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The image has something that every clone would share, or lacks what it needs.
    #[error("image.{field}: {path} {problem}; correct the recipe's scripts")]
    Unsealed {
        /// Key of the recipe's `[image]` table.
        field: &'static str,
        /// The path inside the image.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An installed package's archive is not there, so it cannot stand in the package manifest.
    #[error("{0} is installed, but its archive is missing from the package cache of the build")]
    ArchiveMissing(String),
    /// Two builds of the same packages differ.
    #[error("two builds of the same packages differ: {first} and {second}; compare {kept_first} with {kept_second}")]
    NotReproducible {
        /// Digest of the first build.
        first: TemplateDigest,
        /// Digest of the second build.
        second: TemplateDigest,
        /// The first disk.
        kept_first: PathBuf,
        /// The second disk, kept for the comparison.
        kept_second: PathBuf,
    },
    /// Somebody asked to stop; what was half-made is gone.
    #[error("interrupted; nothing half-made was left")]
    Interrupted,
    /// A defect in the program itself.
    #[error("{0}")]
    Defect(String),
}

impl InstallerError {
    /// Wraps an IO error; a full disk becomes [`InstallerError::NoRoom`].
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::NoRoom { path: path.to_owned(), detail: String::new(), option: "--out" };
        }
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Too little room at a path.
    pub fn no_room(path: &Path, needed: Bytes, free: Bytes, option: &'static str) -> Self {
        let mib = |bytes: Bytes| bytes.0 >> 20;
        let detail = format!(" ({} MiB needed, {} MiB free)", mib(needed), mib(free));
        Self::NoRoom { path: path.to_owned(), detail, option }
    }

    /// The exit code of the program: 2 for a wrong request, 130 when interrupted, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownRecipe { .. } | Self::Recipe { .. } | Self::RecipeSyntax { .. } => 2,
            Self::Interrupted => 130,
            Self::NotRoot
            | Self::ToolMissing { .. }
            | Self::SuiteMissing { .. }
            | Self::NoRoom { .. }
            | Self::Busy(_)
            | Self::CacheIncomplete(_)
            | Self::Process { .. }
            | Self::Io { .. }
            | Self::Unsealed { .. }
            | Self::ArchiveMissing(_)
            | Self::NotReproducible { .. }
            | Self::Defect(_) => 1,
        }
    }
}

impl From<InstallerError> for Failure {
    fn from(error: InstallerError) -> Self {
        let reason = match &error {
            InstallerError::UnknownRecipe { .. } => Reason::UnknownTemplate,
            InstallerError::Recipe { .. } | InstallerError::RecipeSyntax { .. } | InstallerError::Unsealed { .. } => {
                Reason::InvalidArgument
            }
            InstallerError::NotRoot => Reason::Forbidden,
            InstallerError::NoRoom { .. } => Reason::DiskFull,
            InstallerError::Busy(_) => Reason::Conflict,
            InstallerError::Interrupted => Reason::Cancelled,
            InstallerError::ToolMissing { .. }
            | InstallerError::SuiteMissing { .. }
            | InstallerError::CacheIncomplete(_)
            | InstallerError::ArchiveMissing(_)
            | InstallerError::Process { .. }
            | InstallerError::Io { .. } => Reason::HostFailure,
            InstallerError::NotReproducible { .. } | InstallerError::Defect(_) => Reason::Internal,
        };
        Self::new(reason, error.to_string())
    }
}
