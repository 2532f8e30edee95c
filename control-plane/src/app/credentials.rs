//! The password, shown once: a link is made for the customer, and whoever opens it first is the last who could.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_model::Instance;
use nemordp_store::TenantScope;
use nemordp_types::{Failure, InstanceId, Reason};
use secrecy::{ExposeSecret as _, SecretString};

use super::{App, secret_sha256};

/// Says what a token is, to people who find one.
const TOKEN_PREFIX: &str = "nrc1.";

/// A link that was just made.
#[derive(Debug)]
pub struct Link {
    /// What the customer opens.
    pub url: SecretString,
    /// Until when it opens.
    pub expires_at: Timestamp,
}

/// What a link opened.
#[derive(Debug)]
pub struct Revealing {
    /// Whose.
    pub instance: Instance,
    /// The password.
    pub password: SecretString,
}

impl App {
    /// Makes the link for an instance's credentials; an earlier one stops to open.
    ///
    /// # Errors
    /// `not_found` before there are credentials; `already_revealed` after they were shown.
    pub async fn credentials_link(&self, scope: TenantScope, id: InstanceId) -> Result<Link, Failure> {
        let instance = self.instance(scope, id).await?;
        instance.require_active()?;
        let token = self.secret(TOKEN_PREFIX);
        let lifetime = Duration::from_secs(u64::from(self.config.credentials.link_hours) * 3_600);
        let expires_at = self.clock.now().checked_add(lifetime).map_err(Failure::internal)?;
        self.store.secret_link(id, &secret_sha256(token.expose_secret()), expires_at).await?;
        let mut url = self.public_url.clone();
        url.set_path("/c");
        url.set_fragment(Some(token.expose_secret()));
        Ok(Link { url: String::from(url).into(), expires_at })
    }

    /// Opens a link and consumes it.
    ///
    /// # Errors
    /// `not_found` for an unknown or expired link; `already_revealed`.
    pub async fn credentials_reveal(&self, token: &str) -> Result<Revealing, Failure> {
        let unknown = || {
            Failure::new(Reason::NotFound, "this link is unknown or has expired: ask for a new one").with_field("token")
        };
        if !token.starts_with(TOKEN_PREFIX) || token.len() > 128 {
            return Err(unknown());
        }
        let hash = secret_sha256(token);
        let (id, standing) = self.store.secret_link_standing(&hash).await?.ok_or_else(unknown)?;
        let instance = self.store.instance_fetch(TenantScope::All, id).await?;
        if standing.revealed_at.is_none() {
            // What cannot be opened must not be consumed: the operator can still mend the key file.
            let sealed = self.store.secret_fetch(id).await?.ok_or_else(unknown)?;
            self.sealer.open(id, &sealed)?;
        }
        let revealed = self.store.secret_consume(&hash).await?;
        let password = self.sealer.open(revealed.instance_id, &revealed.sealed)?;
        tracing::info!(instance_id = %id, "credentials revealed");
        Ok(Revealing { instance, password })
    }
}
