//! What stands beside the disk: the template's manifest, and the list of the packages that it was made of.

use std::path::{Path, PathBuf};

use nemordp_types::template::Template;
use nemordp_types::{Bytes, TemplateDigest};
use tokio_util::sync::CancellationToken;

use crate::error::InstallerError;
use crate::system::files;
use crate::template::recipe::Recipe;

/// One installed package and the archive that it came in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    name: String,
    version: String,
    architecture: String,
}

impl Package {
    /// The archive's file name, as APT writes it.
    #[must_use]
    pub fn archive(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// The packages of `name version architecture` lines, in order.
pub fn packages(text: &str) -> Result<Vec<Package>, InstallerError> {
    let package = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(name), Some(version), Some(architecture), None) => Ok(Package { name, version, architecture }),
            _ => Err(InstallerError::Defect(format!("the list of installed packages has the line {line:?}"))),
        }
    };
    let mut found = text.lines().map(package).collect::<Result<Vec<_>, _>>()?;
    found.sort();
    Ok(found)
}

/// The archives of the packages in a folder, in the packages' order.
pub fn archives(packages: &[Package], folder: &Path) -> Result<Vec<PathBuf>, InstallerError> {
    let archive = |package: &Package| {
        let path = folder.join(package.archive());
        if path.is_file() {
            Ok(path)
        } else {
            Err(InstallerError::ArchiveMissing(format!("{} {}", package.name, package.version)))
        }
    };
    packages.iter().map(archive).collect()
}

/// The package manifest: `name version architecture sha256`, a line each.
pub fn package_lines(
    packages: &[Package],
    archives: &[PathBuf],
    interrupt: &CancellationToken,
) -> Result<String, InstallerError> {
    let mut text = String::new();
    for (package, archive) in packages.iter().zip(archives) {
        let (digest, _) = files::digest(archive, interrupt)?;
        text.push_str(&format!("{} {} {} {}\n", package.name, package.version, package.architecture, digest.hex()));
    }
    Ok(text)
}

/// The template's manifest.
#[must_use]
pub fn template(recipe: &Recipe, digest: TemplateDigest, file_size: Bytes) -> Template {
    Template {
        name: recipe.name.clone(),
        digest,
        file_size,
        virtual_size: Bytes::from(recipe.disk.size_gib),
        rdp_security: recipe.template.rdp_security,
        personalisation: recipe.template.personalisation,
        login_name: recipe.template.login_name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_sorted_and_know_their_archive() {
        let found = packages("zlib1g 1:1.2.13.dfsg-1 amd64\nadduser 3.134 all\n").unwrap();
        let names: Vec<String> = found.iter().map(Package::archive).collect();
        assert_eq!(names, ["adduser_3.134_all.deb", "zlib1g_1%3a1.2.13.dfsg-1_amd64.deb"]);
        assert!(packages("half a\n").is_err());
    }

    #[test]
    fn a_package_without_its_archive_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let found = packages("adduser 3.134 all\n").unwrap();
        assert!(archives(&found, dir.path()).unwrap_err().to_string().starts_with("adduser 3.134 is installed"));
        std::fs::write(dir.path().join("adduser_3.134_all.deb"), "x").unwrap();
        let archives = archives(&found, dir.path()).unwrap();
        let text = package_lines(&found, &archives, &CancellationToken::new()).unwrap();
        assert_eq!(text, "adduser 3.134 all 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\n");
    }
}
