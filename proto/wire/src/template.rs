//! Templates on the wire.

use nemordp_types::template::{Personalisation, RdpSecurity, TemplatePresence, TemplateState};
use nemordp_types::{Bytes, Failure, LoginName, Template, TemplateDigest, TemplateName};

use crate::{id, v1};

/// The bytes of a digest.
#[must_use]
pub fn encode_digest(digest: TemplateDigest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}

/// Reads a digest; the error names the field.
pub fn decode_digest(bytes: &[u8]) -> Result<TemplateDigest, Failure> {
    id::decode_sha256(bytes, "digest").map(TemplateDigest::from_bytes)
}

impl From<&Template> for v1::Template {
    fn from(template: &Template) -> Self {
        let rdp_security = match template.rdp_security {
            RdpSecurity::Nla => v1::RdpSecurity::Nla,
            RdpSecurity::Tls => v1::RdpSecurity::Tls,
        };
        let personalisation = match template.personalisation {
            Personalisation::GuestAgent => v1::Personalisation::GuestAgent,
            Personalisation::CloudInit => v1::Personalisation::CloudInit,
        };
        Self {
            name: template.name.to_string(),
            digest: encode_digest(template.digest),
            file_size_bytes: template.file_size.0,
            virtual_size_bytes: template.virtual_size.0,
            rdp_security: rdp_security.into(),
            personalisation: personalisation.into(),
            login_name: template.login_name.to_string(),
        }
    }
}

impl TryFrom<v1::Template> for Template {
    type Error = Failure;

    fn try_from(message: v1::Template) -> Result<Self, Failure> {
        let rdp_security = match message.rdp_security() {
            v1::RdpSecurity::Nla => RdpSecurity::Nla,
            v1::RdpSecurity::Tls => RdpSecurity::Tls,
            v1::RdpSecurity::Unspecified => return Err(Failure::field("rdp_security", "use nla or tls")),
        };
        let personalisation = match message.personalisation() {
            v1::Personalisation::GuestAgent => Personalisation::GuestAgent,
            v1::Personalisation::CloudInit => Personalisation::CloudInit,
            v1::Personalisation::Unspecified => {
                return Err(Failure::field("personalisation", "use guest_agent or cloud_init"));
            }
        };
        if message.file_size_bytes == 0 {
            return Err(Failure::field("file_size_bytes", "a template's file is not empty"));
        }
        if message.virtual_size_bytes == 0 {
            return Err(Failure::field("virtual_size_bytes", "a template's disk is not empty"));
        }
        Ok(Self {
            name: TemplateName::new(message.name).map_err(|failure| failure.with_field("name"))?,
            digest: decode_digest(&message.digest)?,
            file_size: Bytes(message.file_size_bytes),
            virtual_size: Bytes(message.virtual_size_bytes),
            rdp_security,
            personalisation,
            login_name: LoginName::new(message.login_name)?,
        })
    }
}

impl From<&TemplatePresence> for v1::TemplatePresence {
    fn from(presence: &TemplatePresence) -> Self {
        let (state, failure) = match &presence.state {
            TemplateState::Fetching => (v1::TemplateState::Fetching, None),
            TemplateState::Ready => (v1::TemplateState::Ready, None),
            TemplateState::Failed(failure) => (v1::TemplateState::Failed, Some(failure.into())),
        };
        Self { digest: encode_digest(presence.digest), state: state.into(), fetched_bytes: presence.fetched.0, failure }
    }
}

impl TryFrom<v1::TemplatePresence> for TemplatePresence {
    type Error = Failure;

    fn try_from(message: v1::TemplatePresence) -> Result<Self, Failure> {
        let state = match message.state() {
            v1::TemplateState::Fetching => TemplateState::Fetching,
            v1::TemplateState::Ready => TemplateState::Ready,
            v1::TemplateState::Failed => {
                let failure = message.failure.ok_or_else(|| Failure::field("failure", "say why it failed"))?;
                TemplateState::Failed(failure.into())
            }
            v1::TemplateState::Unspecified => return Err(Failure::field("state", "use fetching, ready or failed")),
        };
        Ok(Self { digest: decode_digest(&message.digest)?, state, fetched: Bytes(message.fetched_bytes) })
    }
}
