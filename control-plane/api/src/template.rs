//! Golden disks.

use jiff::Timestamp;
use nemordp_types::{Bytes, LoginName, TemplateDigest, TemplateName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::page;
use crate::word::words;

words! {
    /// How the template's RDP server authenticates.
    RdpSecurity {
        /// CredSSP before the session: Windows.
        Nla = "nla",
        /// TLS, then the password: xrdp.
        Tls = "tls",
    }
}

words! {
    /// How an instance gets its name, time zone, keyboard and account.
    Personalisation {
        /// Through the guest agent.
        GuestAgent = "guest_agent",
        /// Through a seed that cloud-init reads.
        CloudInit = "cloud_init",
    }
}

/// A registered template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// Its name; orders use it.
    #[schema(value_type = String, example = "debian-12-xrdp")]
    pub name: TemplateName,
    /// Identity of its disk file.
    #[schema(value_type = String, example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub digest: TemplateDigest,
    /// Length of its disk file.
    #[schema(value_type = u64)]
    pub file_size_bytes: Bytes,
    /// Size of the disk as the guest sees it.
    #[schema(value_type = u64)]
    pub virtual_size_bytes: Bytes,
    /// Which login proof applies.
    pub rdp_security: RdpSecurity,
    /// How it is personalised.
    pub personalisation: Personalisation,
    /// The account that the customer gets.
    #[schema(value_type = String, example = "user")]
    pub login_name: LoginName,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
}

/// A template to register. Its file was uploaded before, or lies on the control plane's own disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTemplate {
    /// Name that orders will use.
    #[schema(value_type = String, example = "debian-12-xrdp")]
    pub name: TemplateName,
    /// SHA-256 of the file: `sha256:` and 64 hex digits.
    #[schema(value_type = String, example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub digest: TemplateDigest,
    /// Length of the file.
    #[schema(value_type = u64)]
    pub file_size_bytes: Bytes,
    /// Size of the disk as the guest sees it.
    #[schema(value_type = u64)]
    pub virtual_size_bytes: Bytes,
    /// Which login proof applies.
    pub rdp_security: RdpSecurity,
    /// How it is personalised.
    pub personalisation: Personalisation,
    /// The account that the customer gets.
    #[serde(default = "login_name")]
    #[schema(value_type = String, default = "user")]
    pub login_name: LoginName,
    /// Absolute path of the file on the control plane's machine; absent when it was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

#[expect(clippy::unwrap_used, reason = "a constant that keeps the rule, which a test shows")]
fn login_name() -> LoginName {
    LoginName::new("user").unwrap()
}

/// A file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateFile {
    /// Its digest, as computed from the bytes that arrived.
    #[schema(value_type = String)]
    pub digest: TemplateDigest,
    /// Its length.
    #[schema(value_type = u64)]
    pub file_size_bytes: Bytes,
}

page! {
    /// A page of templates.
    TemplatePage of Template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_name_is_user_unless_the_manifest_says_otherwise() {
        let manifest = serde_json::json!({
            "name": "debian", "digest": format!("sha256:{}", "0".repeat(64)), "file_size_bytes": 1,
            "virtual_size_bytes": 1, "rdp_security": "tls", "personalisation": "guest_agent",
        });
        let template: NewTemplate = serde_json::from_value(manifest).unwrap();
        assert_eq!(template.login_name.as_str(), "user");
    }
}
