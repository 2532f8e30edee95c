//! The files of a recipe, from the program itself or from a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::error::InstallerError;
use crate::system::files;

static RECIPES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/recipes");

/// A recipe's files by their path below the recipe's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(BTreeMap<PathBuf, Vec<u8>>);

/// Names of the recipes that the program carries.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = RECIPES.dirs().filter_map(|dir| dir.path().to_str()).collect();
    names.sort_unstable();
    names
}

impl Bundle {
    /// The recipe of this name that the program carries.
    pub fn carried(name: &str) -> Result<Self, InstallerError> {
        let unknown = || InstallerError::UnknownRecipe { name: name.to_owned(), known: names().join(", ") };
        let dir = RECIPES.dirs().find(|dir| dir.path() == Path::new(name)).ok_or_else(unknown)?;
        let mut found = BTreeMap::new();
        let mut folders = vec![dir];
        while let Some(folder) = folders.pop() {
            folders.extend(folder.dirs());
            for file in folder.files() {
                let path = file.path().strip_prefix(name).unwrap_or(file.path());
                found.insert(path.to_owned(), file.contents().to_vec());
            }
        }
        Ok(Self(found))
    }

    /// The recipe in a folder.
    pub fn read(folder: &Path) -> Result<Self, InstallerError> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(current) = folders.pop() {
            for path in files::list(&current)? {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(&path).map_err(|error| InstallerError::io("read", &path, error))?;
                    found.insert(path.strip_prefix(folder).unwrap_or(&path).to_owned(), bytes);
                }
            }
        }
        Ok(Self(found))
    }

    /// A file as text.
    pub fn text(&self, path: &str) -> Result<&str, InstallerError> {
        let wrong =
            |fix: &str| InstallerError::Recipe { file: path.to_owned(), field: "file".to_owned(), fix: fix.to_owned() };
        let bytes = self.0.get(Path::new(path)).ok_or_else(|| wrong("is missing from the recipe's folder"))?;
        std::str::from_utf8(bytes).map_err(|_| wrong("must be UTF-8"))
    }

    /// The files below a folder of the recipe, by their path below that folder, in the order of their names.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = (&Path, &[u8])> {
        self.0.iter().filter_map(move |(path, bytes)| Some((path.strip_prefix(folder).ok()?, bytes.as_slice())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_recipes_are_those_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        assert!(!names().is_empty());
        for name in names() {
            assert_eq!(Bundle::carried(name).unwrap(), Bundle::read(&folder.join(name)).unwrap());
        }
    }

    #[test]
    fn an_unknown_recipe_is_refused_with_the_known_ones() {
        let error = Bundle::carried("debian-99").unwrap_err().to_string();
        assert!(error.contains("debian-99") && error.contains("debian-12-xrdp"), "{error}");
    }
}
