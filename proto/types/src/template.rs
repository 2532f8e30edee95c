//! Golden disks that instances are cloned from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::Failure;
use crate::name::{LoginName, TemplateName};
use crate::unit::Bytes;

/// SHA-256 of a template's file, byte for byte; written `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateDigest([u8; 32]);

impl TemplateDigest {
    /// Wraps a hash that was computed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hex digits, for file names.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for TemplateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for TemplateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TemplateDigest {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::field("digest", "use sha256: and 64 hex digits, as `sha256sum` prints them");
        let digits = text.strip_prefix("sha256:").ok_or_else(bad)?;
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| bad())?;
        Ok(Self(bytes))
    }
}

impl Serialize for TemplateDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TemplateDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How the template's RDP server authenticates; decides which proof counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RdpSecurity {
    /// CredSSP before the session (MS-CSSP): Windows, `FreeRDP`'s shadow server.
    Nla,
    /// TLS, the password travels in Client Info (MS-RDPBCGR 2.2.1.11): xrdp.
    Tls,
}

/// How an instance gets its name, time zone, keyboard and account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Personalisation {
    /// Through the QEMU guest agent, as soon as it answers.
    GuestAgent,
    /// Through a `NoCloud` seed that cloud-init reads at the first boot.
    CloudInit,
}

/// What stands in a template's manifest beside its disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Name that orders use.
    pub name: TemplateName,
    /// Identity of the disk file (qcow2).
    pub digest: TemplateDigest,
    /// Length of the disk file.
    pub file_size: Bytes,
    /// Size of the disk as the guest sees it; a plan's disk cannot be smaller.
    pub virtual_size: Bytes,
    /// Which proof applies.
    pub rdp_security: RdpSecurity,
    /// How it is personalised.
    pub personalisation: Personalisation,
    /// The account that the customer gets.
    pub login_name: LoginName,
}

/// How far a template is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplatePresence {
    /// Which.
    pub digest: TemplateDigest,
    /// Where it stands.
    pub state: TemplateState,
    /// What has arrived of it since the node began to fetch.
    pub fetched: Bytes,
}

/// Where a template stands on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// On its way.
    Fetching,
    /// Usable.
    Ready,
    /// Not usable; whoever asks next makes a new attempt.
    Failed(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text() {
        let digest = TemplateDigest::from_bytes([0xab; 32]);
        assert_eq!(digest.to_string().parse::<TemplateDigest>().unwrap(), digest);
    }

    #[test]
    fn broken_digests_name_their_field() {
        for bad in ["", "sha256:", "sha256:zz", "md5:00", &"a".repeat(64)] {
            assert_eq!(bad.parse::<TemplateDigest>().unwrap_err().field.as_deref(), Some("digest"));
        }
    }
}
