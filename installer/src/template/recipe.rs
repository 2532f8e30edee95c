//! What a recipe says, checked: an error names file, key and fix.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{GiB, LoginName, TemplateName};
use serde::Deserialize;
use uuid::Uuid;

use crate::error::InstallerError;
use crate::template::bundle::Bundle;

/// Name of the file that describes a recipe.
pub const FILE: &str = "recipe.toml";

/// A recipe's description.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the template.
    pub name: TemplateName,
    /// One line for people.
    pub description: String,
    /// What the template's manifest says.
    pub template: TemplateFacts,
    /// Which packages.
    pub debian: Debian,
    /// The disk and its filesystem.
    pub disk: Disk,
    /// How the disk starts.
    pub boot: Boot,
    /// What must hold of the image.
    pub image: Image,
}

/// What a template's manifest says about using it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateFacts {
    /// Which login proof applies.
    pub rdp_security: RdpSecurity,
    /// How it is personalised.
    pub personalisation: Personalisation,
    /// The customer's account.
    pub login_name: LoginName,
}

/// Which packages, from where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Suites, the first one is the release; each is looked up in the machine's APT sources.
    pub suites: Vec<String>,
    /// Components of each suite.
    pub components: Vec<String>,
    /// Packages beyond the minimal system; what they depend on comes along, what they recommend does not.
    pub packages: Vec<String>,
    /// Path patterns that are not unpacked.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Exceptions from `exclude`.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// The disk: one partition with ext4.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Size as the guest sees it.
    pub size_gib: GiB,
    /// Label of the root filesystem.
    pub filesystem_label: String,
    /// UUID of the root filesystem; fixed, because it is part of the digest.
    pub filesystem_uuid: Uuid,
    /// ext4's bytes per inode.
    pub bytes_per_inode: u32,
}

/// What a BIOS starts: files of the image that the recipe's scripts put there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Boot sector's code, without the partition table.
    pub sector: String,
    /// GRUB's core image, written behind the boot sector.
    pub core: String,
}

/// What must hold of the finished image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Patterns of paths that must not exist.
    pub absent: Vec<String>,
    /// Files that must exist and be empty.
    pub empty: Vec<String>,
    /// Modes of overlaid files that differ from the rule (0755 for a file that starts with `#!`, else 0644).
    #[serde(default)]
    pub modes: BTreeMap<String, String>,
}

impl Recipe {
    /// Reads and checks the description of a bundle.
    pub fn parse(bundle: &Bundle) -> Result<Self, InstallerError> {
        let syntax = |source| InstallerError::RecipeSyntax { file: FILE.to_owned(), source: Box::new(source) };
        let recipe: Self = toml::from_str(bundle.text(FILE)?).map_err(syntax)?;
        recipe.check(bundle)?;
        Ok(recipe)
    }

    fn check(&self, bundle: &Bundle) -> Result<(), InstallerError> {
        demand(word(&self.debian.architecture), "debian.architecture", "use Debian's name, like amd64")?;
        demand(!self.debian.suites.is_empty(), "debian.suites", "name at least the release, like bookworm")?;
        demand(
            self.debian.suites.iter().all(|name| word(name)),
            "debian.suites",
            "use suite names like bookworm-security",
        )?;
        demand(!self.debian.components.is_empty(), "debian.components", "name at least main")?;
        demand(self.debian.components.iter().all(|name| word(name)), "debian.components", "use names like main")?;
        for package in &self.debian.packages {
            demand(word(package), "debian.packages", &format!("{package:?} is no package name"))?;
        }
        for pattern in self.debian.exclude.iter().chain(&self.debian.keep) {
            let fine = pattern.starts_with('/') && !pattern.contains(['\'', '\n']);
            demand(fine, "debian.exclude", &format!("{pattern:?} must be an absolute path pattern"))?;
        }
        demand((2..=1024).contains(&self.disk.size_gib.0), "disk.size_gib", "use 2 to 1024")?;
        let label = &self.disk.filesystem_label;
        demand(
            (1..=16).contains(&label.len()) && word(label),
            "disk.filesystem_label",
            "use 1 to 16 letters and digits",
        )?;
        demand((1024..=65536).contains(&self.disk.bytes_per_inode), "disk.bytes_per_inode", "use 1024 to 65536")?;
        for path in [&self.boot.sector, &self.boot.core] {
            demand(inside(path), "boot", &format!("{path:?} must be a path inside the image, without a leading /"))?;
        }
        for path in self.image.absent.iter().chain(&self.image.empty) {
            demand(inside(path), "image", &format!("{path:?} must be a path inside the image, without a leading /"))?;
        }
        for (path, mode) in &self.image.modes {
            let known = bundle.below("files").any(|(file, _)| file == Path::new(path));
            demand(known, "image.modes", &format!("files/{path} is not in the recipe"))?;
            let octal = u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777);
            demand(octal, "image.modes", &format!("{mode:?} must be octal, like \"0440\""))?;
        }
        for (script, bytes) in bundle.below("scripts") {
            let fine =
                script.extension().is_some_and(|extension| extension == "sh") && std::str::from_utf8(bytes).is_ok();
            demand(fine, "scripts", &format!("{} must be a shell script named NN-what.sh", script.display()))?;
        }
        Ok(())
    }

    /// The mode of an overlaid file.
    #[must_use]
    pub fn mode_of(&self, path: &Path, bytes: &[u8]) -> u32 {
        let stated = path.to_str().and_then(|path| self.image.modes.get(path));
        let rule = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        stated.and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(rule)
    }
}

fn demand(holds: bool, field: &str, fix: &str) -> Result<(), InstallerError> {
    if holds {
        return Ok(());
    }
    Err(InstallerError::Recipe { file: FILE.to_owned(), field: field.to_owned(), fix: fix.to_owned() })
}

/// What Debian allows in names of packages, suites and components; nothing that a program could read as an option.
fn word(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

fn inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle_with(change: impl Fn(String) -> String) -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        let text = Bundle::carried("debian-12-xrdp").unwrap().text(FILE).unwrap().to_owned();
        std::fs::write(dir.path().join(FILE), change(text)).unwrap();
        Bundle::read(dir.path()).unwrap()
    }

    fn error_of(from: &str, to: &str) -> String {
        let bundle = bundle_with(|text| {
            assert!(text.contains(from), "the recipe has {from}");
            text.replacen(from, to, 1)
        });
        Recipe::parse(&bundle).unwrap_err().to_string()
    }

    #[test]
    fn every_carried_recipe_is_valid_and_has_the_name_of_its_folder() {
        for name in crate::template::bundle::names() {
            assert_eq!(Recipe::parse(&Bundle::carried(name).unwrap()).unwrap().name.as_str(), name);
        }
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = error_of("[disk]", "[disk]\nsize_mib = 1");
        assert!(error.contains("size_mib") && error.contains("size_gib"), "{error}");
    }

    #[test]
    fn bad_values_name_their_key_and_the_fix() {
        for (from, to, field) in [
            ("size_gib = 4", "size_gib = 1", "disk.size_gib: use 2"),
            ("\"xrdp\",", "\"-o\",", "debian.packages: \"-o\""),
            ("\"etc/machine-id\"", "\"../etc/machine-id\"", "image: \"../etc/machine-id\""),
            ("filesystem_label = \"root\"", "filesystem_label = \"\"", "disk.filesystem_label: use 1"),
            ("login_name = \"user\"", "login_name = \"User\"", "login_name"),
            ("rdp_security = \"tls\"", "rdp_security = \"rdp\"", "rdp"),
        ] {
            let error = error_of(from, to);
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_folder_without_a_description_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = Recipe::parse(&Bundle::read(dir.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("recipe.toml: file: is missing"), "{error}");
    }
}
