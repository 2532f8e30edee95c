//! Templates from recipes: a recipe is read and checked, becomes a plan, and the plan is carried out.
//!
//! The code knows Debian, ext4 and how a BIOS starts a disk; which system comes out, and what runs in it, stands in the
//! recipe alone.
//!
//! Map: [`bundle`] a recipe's files · [`recipe`] its meaning · [`sources`] where packages come from · [`plan`] the steps ·
//! [`build`] carrying them out · [`system_tree`] packages → folder · [`disk`] folder → bootable disk · [`manifest`] what
//! stands beside the disk.

pub mod build;
pub mod bundle;
pub mod disk;
pub mod manifest;
pub mod plan;
pub mod recipe;
pub mod sources;
pub mod system_tree;

use std::path::PathBuf;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Name of the recipe.
    pub name: String,
    /// Where disk and manifests go.
    pub out: PathBuf,
    /// Where package archives and lists are kept.
    pub cache: Option<PathBuf>,
    /// Folder of the recipe, instead of the one in the program.
    pub recipe: Option<PathBuf>,
    /// APT sources, instead of the machine's.
    pub sources: Option<PathBuf>,
    /// Only what the cache has.
    pub offline: bool,
    /// Folder in memory for the ordered copy.
    pub staging: PathBuf,
    /// Build twice and compare.
    pub verify_reproducible: bool,
}
