//! What stands for a template where nothing boots: a small file with a manifest of its own.

use std::path::Path;

use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{Bytes, Failure, GiB, LoginName, Template, TemplateDigest, TemplateName};
use sha2::{Digest as _, Sha256};

use super::{Result, TrialError, write};

/// Writes file and manifest into a folder and returns the manifest.
pub(super) fn template(folder: &Path) -> Result<Template> {
    let disk = b"no disk: the simulated hypervisor boots nothing".repeat(1024);
    let bad = |failure: Failure| TrialError::Answer { what: "the simulated template".to_owned(), why: failure.message };
    let template = Template {
        name: TemplateName::new("sim-desktop").map_err(bad)?,
        digest: TemplateDigest::from_bytes(Sha256::digest(&disk).into()),
        file_size: Bytes(u64::try_from(disk.len()).unwrap_or_default()),
        virtual_size: GiB(1).into(),
        rdp_security: RdpSecurity::Nla,
        personalisation: Personalisation::GuestAgent,
        login_name: LoginName::new("user").map_err(bad)?,
    };
    let text = serde_json::to_string_pretty(&template)
        .map_err(|error| TrialError::Answer { what: "the simulated template".to_owned(), why: error.to_string() })?;
    write(&folder.join("sim-desktop.json"), &text)?;
    std::fs::write(folder.join("sim-desktop.qcow2"), &disk)
        .map_err(|source| TrialError::File { path: folder.join("sim-desktop.qcow2"), source })?;
    Ok(template)
}
