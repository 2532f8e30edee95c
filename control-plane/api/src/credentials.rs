//! The customer's password, shown once.

use std::fmt;

use jiff::Timestamp;
use nemordp_types::{InstanceId, LoginName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A link that shows the credentials once; a newer one replaces it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CredentialsLink {
    /// For the customer. Whoever opens it and presses the button has the password, and nobody after.
    #[schema(example = "https://cloud.example/c#nrc1.…")]
    pub url: String,
    /// Until when it opens.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Asks for the credentials behind a link. Consumes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialsReveal {
    /// What stands behind the `#` of the link.
    pub token: String,
}

/// What the customer needs to log in. Nobody has the password after this answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevealedCredentials {
    /// Which instance.
    #[schema(value_type = String, format = "uuid")]
    pub instance_id: InstanceId,
    /// Address at which an RDP client connects.
    pub endpoint_address: String,
    /// TCP port at which an RDP client connects.
    pub endpoint_port: u16,
    /// Who logs in.
    #[schema(value_type = String)]
    pub login_name: LoginName,
    /// The password.
    pub password: String,
    /// SHA-256 of the RDP server's certificate, in hex: what a client should show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdp_certificate_sha256: Option<String>,
}

impl fmt::Debug for CredentialsLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsLink").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for CredentialsReveal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsReveal").finish_non_exhaustive()
    }
}

impl fmt::Debug for RevealedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevealedCredentials").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}
