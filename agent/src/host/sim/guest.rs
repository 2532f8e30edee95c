//! What is inside a simulated guest: one account, an RDP certificate of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use nemordp_types::{Failure, LoginName};
use rcgen::{CertificateParams, KeyPair};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The guest's RDP server: certificate and key, made at its first boot.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct RdpServer {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl RdpServer {
    pub(super) fn new(host_name: &str) -> Result<Self, Failure> {
        let unfit = |error: rcgen::Error| Failure::internal(format!("no certificate for a simulated guest: {error}"));
        let key = KeyPair::generate().map_err(unfit)?;
        let certificate =
            CertificateParams::new([host_name.to_owned()]).and_then(|p| p.self_signed(&key)).map_err(unfit)?;
        Ok(Self { certificate: certificate.der().to_vec(), key: key.serialize_der() })
    }

    pub(super) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }
}

/// What lives on the guest's disk; its password file is as private as a real guest's.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct GuestDisk {
    pub(super) login: Option<LoginName>,
    pub(super) password: Option<String>,
    pub(super) host_name: Option<String>,
    pub(super) rdp: Option<RdpServer>,
}

/// The account, shared with the RDP server that checks it.
#[derive(Debug, Default)]
pub(super) struct Account {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    login: Option<LoginName>,
    password: Option<SecretString>,
    refused_at: Option<Timestamp>,
}

impl Account {
    pub(super) fn restore(disk: &GuestDisk) -> Self {
        let password = disk.password.clone().map(SecretString::from);
        Self { inner: Mutex::new(Inner { login: disk.login.clone(), password, refused_at: None }) }
    }

    pub(super) fn create(&self, login: &LoginName) {
        self.lock().login.get_or_insert_with(|| login.clone());
    }

    pub(super) fn set(&self, login: &LoginName, password: SecretString) {
        let mut inner = self.lock();
        (inner.login, inner.password) = (Some(login.clone()), Some(password));
    }

    pub(super) fn login(&self) -> Option<LoginName> {
        self.lock().login.clone()
    }

    /// What a login needs, if the account may log in.
    pub(super) fn credential(&self) -> Option<(LoginName, SecretString)> {
        let inner = self.lock();
        inner.login.clone().zip(inner.password.clone())
    }

    pub(super) fn clear_text(&self) -> Option<String> {
        self.lock().password.as_ref().map(|password| password.expose_secret().to_owned())
    }

    pub(super) fn refused(&self, at: Timestamp) {
        self.lock().refused_at = Some(at);
    }

    pub(super) fn refused_since(&self, since: Timestamp) -> bool {
        self.lock().refused_at.is_some_and(|at| at >= since)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
