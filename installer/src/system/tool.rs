//! Which programs a build needs, and which Debian package has each.

use std::path::Path;

use crate::error::InstallerError;

/// A program of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Name of the program.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// What building a template needs.
pub const TEMPLATE_TOOLS: &[Tool] = &[
    Tool { program: "mmdebstrap", package: "mmdebstrap" },
    Tool { program: "unshare", package: "util-linux" },
    Tool { program: "tar", package: "tar" },
    Tool { program: "bash", package: "bash" },
    Tool { program: "dpkg-query", package: "dpkg" },
    Tool { program: "mke2fs", package: "e2fsprogs" },
    Tool { program: "debugfs", package: "e2fsprogs" },
    Tool { program: "qemu-img", package: "qemu-utils" },
];

/// Where programs are looked for; root's own PATH may lack the sbin folders.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names every tool that the search path does not have, with the packages to install.
pub fn require(tools: &[Tool], search_path: &str) -> Result<(), InstallerError> {
    let missing: Vec<&Tool> = tools
        .iter()
        .filter(|tool| !search_path.split(':').any(|dir| Path::new(dir).join(tool.program).is_file()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    Err(InstallerError::ToolMissing { missing: programs.join(", "), packages: packages.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tools_are_named_with_the_package_to_install() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tar"), "").unwrap();
        let error = require(TEMPLATE_TOOLS, dir.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("mke2fs, debugfs, qemu-img"), "{error}");
        assert!(error.ends_with("bash dpkg e2fsprogs qemu-utils"), "{error}");
        assert!(!error.contains("tar,"), "{error}");
    }
}
