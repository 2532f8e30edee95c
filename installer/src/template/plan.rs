//! What a build will do, before it does anything.

use std::path::{Path, PathBuf};

use nemordp_types::Bytes;

use crate::error::InstallerError;
use crate::progress::OutputFormat;
use crate::template::bundle::Bundle;
use crate::template::recipe::Recipe;
use crate::template::{BuildRequest, sources};

/// One step, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Root, tools, room; another build in the same folder.
    Check,
    /// Packages into a folder, overlay and scripts upon them.
    System,
    /// What must hold of the image, and the package manifest.
    Seal,
    /// Folder → disk that starts.
    Disk,
    /// Disk → qcow2, digest, manifests, final names.
    Publish,
    /// The same again, compared.
    Verify,
}

impl Step {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::System => "system",
            Self::Seal => "seal",
            Self::Disk => "disk",
            Self::Publish => "publish",
            Self::Verify => "verify",
        }
    }
}

/// A build, decided.
#[derive(Debug)]
pub struct Plan {
    /// What was asked for.
    pub request: BuildRequest,
    /// The recipe's files.
    pub bundle: Bundle,
    /// The recipe.
    pub recipe: Recipe,
    /// Lines of the image's sources.list.
    pub sources: Vec<String>,
    /// The steps.
    pub steps: Vec<Step>,
}

/// Reads and checks the recipe and finds the sources; touches nothing.
pub fn make(request: BuildRequest) -> Result<Plan, InstallerError> {
    let bundle = match &request.recipe {
        Some(folder) => Bundle::read(folder)?,
        None => Bundle::carried(&request.name)?,
    };
    let recipe = Recipe::parse(&bundle)?;
    if recipe.name.as_str() != request.name {
        let fix = format!("the recipe makes {}, not {}: ask for that", recipe.name, request.name);
        return Err(InstallerError::Recipe { file: "recipe.toml".to_owned(), field: "name".to_owned(), fix });
    }
    let sources = sources::lines(&recipe.debian, request.sources.as_deref(), Path::new("/etc/apt"))?;
    let mut steps = vec![Step::Check, Step::System, Step::Seal, Step::Disk, Step::Publish];
    if request.verify_reproducible {
        steps.push(Step::Verify);
    }
    Ok(Plan { request, bundle, recipe, sources, steps })
}

impl Plan {
    /// A file that the build makes: `NAME.suffix` in the out folder.
    #[must_use]
    pub fn product(&self, suffix: &str) -> PathBuf {
        self.request.out.join(format!("{}.{suffix}", self.recipe.name))
    }

    /// Room that a build takes beneath the out folder: the system, its disk, and the archives.
    #[must_use]
    pub fn room_needed(&self) -> Bytes {
        Bytes::from(self.recipe.disk.size_gib)
    }

    /// What a step does, for people.
    #[must_use]
    pub fn describe(&self, step: Step) -> String {
        let out = self.request.out.display();
        match step {
            Step::Check => format!("root, tools, {} MiB of room in {out}", self.room_needed().0 >> 20),
            Step::System => {
                let from = if self.request.offline { "from the cache" } else { "from this machine's APT sources" };
                format!(
                    "{} packages and what they need, {from}; overlay and scripts of the recipe",
                    self.recipe.debian.packages.len()
                )
            }
            Step::Seal => "nothing that clones would share; package manifest".to_owned(),
            Step::Disk => format!("{} GiB, ext4, started by its own boot loader", self.recipe.disk.size_gib.0),
            Step::Publish => format!("{}, manifests beside it", self.product("qcow2").display()),
            Step::Verify => "build again from the same packages and compare the digests".to_owned(),
        }
    }

    /// The whole plan.
    #[must_use]
    pub fn show(&self, output: OutputFormat) -> String {
        match output {
            OutputFormat::Json => {
                let step = |step: &Step| serde_json::json!({"name": step.name(), "detail": self.describe(*step)});
                let steps: Vec<_> = self.steps.iter().map(step).collect();
                serde_json::json!({"template": self.recipe.name, "sources": self.sources, "steps": steps}).to_string()
            }
            OutputFormat::Text => {
                let mut text = format!("{}: {}\n", self.recipe.name, self.recipe.description);
                for (number, step) in (1..).zip(&self.steps) {
                    text.push_str(&format!("{number}. {}: {}\n", step.name(), self.describe(*step)));
                }
                text.push_str(&format!("sources:\n  {}", self.sources.join("\n  ")));
                text
            }
        }
    }
}
