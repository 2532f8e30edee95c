//! One machine: its agent, the network to it, and what its simulated hypervisor has on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::{Link, Program, Result, io, unusable};

/// A simulated machine with an agent.
#[derive(Debug)]
pub struct Node {
    /// How operators call it.
    pub name: String,
    /// Its agent.
    pub agent: Program,
    /// From the control plane to the agent.
    pub downlink: Link,
    /// From the agent to the control plane.
    pub uplink: Link,
    pub(super) dir: PathBuf,
}

/// What the hypervisor has of one instance, read from its own file.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Its disks by their edition, each with the password of the account on it; the only one is 0 where none has a name.
    pub disks: BTreeMap<String, Option<String>>,
    /// The mark, if a domain is defined: instance and order, without dashes.
    pub mark: Option<(String, String)>,
    /// What it was made from.
    pub spec: Value,
    /// Whether it runs.
    pub running: bool,
}

impl Domain {
    /// The disks that its specification names: its own, and the rescue system's if there is one.
    #[must_use]
    pub fn wanted_disks(&self) -> Vec<String> {
        let edition = |name: &str| self.spec.pointer(&format!("/disks/{name}")).filter(|edition| !edition.is_null());
        let mut wanted = vec![edition("system").map_or_else(|| "0".to_owned(), ToString::to_string)];
        wanted.extend(edition("rescue").map(ToString::to_string));
        wanted
    }

    /// The password of the account on the disk that it boots from.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.disks.get(self.wanted_disks().last()?)?.as_deref()
    }
}

/// An id without its dashes, as the store has it.
pub(super) fn plain(id: &str) -> String {
    id.replace('-', "").to_lowercase()
}

impl Node {
    /// What the hypervisor has, by instance id without dashes.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn domains(&self) -> Result<BTreeMap<String, Domain>> {
        let folder = self.dir.join("agent").join("sim");
        let mut domains = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(io(folder.display()))? {
            let path = entry.map_err(io(folder.display()))?.path();
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            // Removed since the folder was listed: it is gone.
            let Ok(text) = std::fs::read(&path) else { continue };
            let file: Value = serde_json::from_slice(&text).map_err(|error| unusable(path.display(), error))?;
            let id = path.file_stem().and_then(|name| name.to_str()).map(plain).unwrap_or_default();
            domains.insert(id, domain(&file));
        }
        Ok(domains)
    }

    /// Puts a copy of some instance beside it that nobody owns, for who wants to see the check find it; gives the file, and
    /// the id without dashes.
    ///
    /// # Errors
    /// There is no instance to copy.
    pub fn plant_orphan(&self) -> Result<(PathBuf, String)> {
        const ORPHAN: &str = "01900000-0000-7000-8000-000000000001";
        let folder = self.dir.join("agent").join("sim");
        let entries = std::fs::read_dir(&folder).map_err(io(folder.display()))?;
        let found =
            entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "json"));
        let file = folder.join(format!("{ORPHAN}.json"));
        let source = found.ok_or_else(|| unusable(folder.display(), "no instance"))?;
        std::fs::copy(&source, &file).map_err(io(file.display()))?;
        Ok((file, plain(ORPHAN)))
    }

    /// Sets the faults of its hypervisor (TOML, `[[faults]]`), for calls from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn faults(&self, toml: &str) -> Result<()> {
        let path = self.dir.join("agent").join("sim").join("faults.toml");
        let beside = path.with_extension("beside");
        std::fs::write(&beside, toml).map_err(io(beside.display()))?;
        std::fs::rename(&beside, &path).map_err(io(path.display()))
    }
}

fn domain(file: &Value) -> Domain {
    let domain = file.get("domain").filter(|domain| !domain.is_null());
    let id = |field: &str| domain.and_then(|d| d.pointer(&format!("/mark/{field}"))).and_then(Value::as_str).map(plain);
    let password = |of: &Value| of.pointer("/guest/password").and_then(Value::as_str).map(ToOwned::to_owned);
    let mut disks: BTreeMap<_, _> = file
        .get("disks")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(edition, disk)| (edition.clone(), password(disk)))
        .collect();
    if file.get("disk").is_some_and(|disk| !disk.is_null()) {
        disks.insert("0".to_owned(), password(file));
    }
    Domain {
        disks,
        mark: id("instance_id").zip(id("order_id")),
        spec: domain.and_then(|domain| domain.get("spec")).cloned().unwrap_or_default(),
        running: domain.and_then(|domain| domain.get("started_at")).is_some_and(|at| !at.is_null()),
    }
}
