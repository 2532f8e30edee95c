//! Who this node is, on disk: ids, key and certificate in one file that is replaced as a whole, readable for the agent
//! alone; and the revocation list beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use nemordp_types::{Failure, InstallationId, NodeId, Reason};
use nemordp_wire::mtls::{Credentials, Revocations};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Raised when an older agent could misread the files.
const FORMAT: u32 = 1;

/// What enrollment gave this node.
#[derive(Clone)]
pub struct Identity {
    /// Its id.
    pub node_id: NodeId,
    /// Whose node it is.
    pub installation_id: InstallationId,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u32,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The installation's CA.
    pub ca: CertificateDer<'static>,
    /// The leaf's key, PKCS #8.
    key: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("node_id", &self.node_id)
            .field("installation_id", &self.installation_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    node_id: NodeId,
    installation_id: InstallationId,
    heartbeat_seconds: u32,
    chain_der: Vec<String>,
    ca_der: String,
    key_pkcs8: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationFile {
    format: u32,
    number: u64,
    serials: Vec<String>,
}

impl Identity {
    /// Checks that everything belongs together: the certificate names this node, and was issued for this key.
    ///
    /// # Errors
    /// `identity_mismatch`.
    pub(super) fn new(
        node_id: NodeId,
        installation_id: InstallationId,
        heartbeat_seconds: u32,
        chain: Vec<CertificateDer<'static>>,
        ca: CertificateDer<'static>,
        key: &KeyPair,
    ) -> Result<Self, Failure> {
        let mismatch = |what: &str| Failure::new(Reason::IdentityMismatch, format!("{what}: enroll the node again"));
        let leaf = chain.first().ok_or_else(|| mismatch("the control plane sent no certificate"))?;
        let named = nemordp_wire::identity::Identity::of_certificate(leaf)?;
        if (named.role, named.id) != (nemordp_wire::identity::Role::Node, node_id.as_uuid()) {
            return Err(mismatch("the certificate is another node's"));
        }
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| mismatch("the certificate cannot be read"))?;
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(key) {
            return Err(mismatch("the certificate was issued for another key"));
        }
        Ok(Self { node_id, installation_id, heartbeat_seconds, chain, ca, key: key.serialize_der() })
    }

    /// For TLS.
    ///
    /// # Errors
    /// Never for what `Identity::new` made; kept so that a damaged file is not a panic.
    pub fn credentials(&self) -> Result<Credentials, Failure> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        Ok(Credentials { chain: self.chain.clone(), key, ca: self.ca.clone() })
    }

    /// From when until when the certificate is good.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn validity(&self) -> Result<(Timestamp, Timestamp), Failure> {
        let unreadable =
            || Failure::new(Reason::IdentityMismatch, "the certificate cannot be read: enroll the node again");
        let leaf = self.chain.first().ok_or_else(unreadable)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;
        let validity = parsed.validity();
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|_| unreadable());
        Ok((at(validity.not_before)?, at(validity.not_after)?))
    }
}

/// The folder that holds them.
#[derive(Debug, Clone)]
pub struct IdentityStore {
    folder: PathBuf,
}

impl IdentityStore {
    /// Opens the folder, made when it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| broken(folder, &error))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The identity; none before enrollment.
    ///
    /// # Errors
    /// The file is damaged; the message says what to do.
    pub fn load(&self) -> Result<Option<Identity>, Failure> {
        let path = self.path("identity.json");
        let Some(file) = read::<IdentityFile>(&path)? else { return Ok(None) };
        known(&path, file.format)?;
        let damaged = |_| broken(&path, &"a value is not base64");
        let der = |text: &String| STANDARD.decode(text).map(CertificateDer::from).map_err(damaged);
        let key = STANDARD.decode(&file.key_pkcs8).map_err(damaged)?;
        let pair = KeyPair::try_from(key.as_slice()).map_err(|error| broken(&path, &error))?;
        let chain = file.chain_der.iter().map(der).collect::<Result<_, _>>()?;
        let ca = der(&file.ca_der)?;
        Identity::new(file.node_id, file.installation_id, file.heartbeat_seconds, chain, ca, &pair).map(Some)
    }

    /// Keeps an identity, as a whole.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn save(&self, identity: &Identity) -> Result<(), Failure> {
        let file = IdentityFile {
            format: FORMAT,
            node_id: identity.node_id,
            installation_id: identity.installation_id,
            heartbeat_seconds: identity.heartbeat_seconds,
            chain_der: identity.chain.iter().map(|certificate| STANDARD.encode(certificate)).collect(),
            ca_der: STANDARD.encode(&identity.ca),
            key_pkcs8: STANDARD.encode(&identity.key),
        };
        self.write("identity.json", &file)?;
        // The pending key has become the identity's.
        let pending = self.path("pending-key.der");
        match fs::remove_file(&pending) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(broken(&pending, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The key to enroll with: kept until enrollment ends, so that a lost answer can be asked for again.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn pending_key(&self) -> Result<KeyPair, Failure> {
        let path = self.path("pending-key.der");
        match fs::read(&path) {
            Ok(der) => KeyPair::try_from(der.as_slice()).map_err(|error| broken(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = new_key()?;
                write_private(&path, &key.serialize_der()).map_err(|error| broken(&path, &error))?;
                Ok(key)
            }
            Err(error) => Err(broken(&path, &error)),
        }
    }

    /// The revocation list that was in force when the agent ended.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn load_revocations(&self) -> Result<Revocations, Failure> {
        let path = self.path("revocations.json");
        let revocations = Revocations::new();
        if let Some(file) = read::<RevocationFile>(&path)? {
            known(&path, file.format)?;
            let serials = file.serials.iter().map(hex::decode).collect::<Result<Vec<_>, _>>();
            revocations.replace(file.number, serials.map_err(|error| broken(&path, &error))?);
        }
        Ok(revocations)
    }

    /// Keeps a revocation list.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn save_revocations(&self, number: u64, serials: &[Vec<u8>]) -> Result<(), Failure> {
        let serials = serials.iter().map(hex::encode).collect();
        self.write("revocations.json", &RevocationFile { format: FORMAT, number, serials })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Failure> {
        let path = self.path(name);
        let text = serde_json::to_vec_pretty(value).map_err(|error| broken(&path, &error))?;
        write_private(&path, &text).map_err(|error| broken(&path, &error))
    }
}

/// A fresh key: ECDSA on P-256.
///
/// # Errors
/// The cryptographic library refuses.
pub(super) fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(|error| Failure::internal(format!("no key can be made: {error}")))
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, Failure> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| broken(path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(broken(path, &error)),
    }
}

/// Written beside, synced, renamed: a half-written key never takes a whole one's place.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("beside");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn known(path: &Path, format: u32) -> Result<(), Failure> {
    if format == FORMAT {
        return Ok(());
    }
    Err(Failure::new(
        Reason::Internal,
        format!("{} has format {format}, this agent knows {FORMAT}: install the agent that wrote it", path.display()),
    ))
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Reason::Internal,
        format!(
            "{} cannot be used: restore it from a backup, or remove it and enroll the node again with a ticket bound to its id",
            path.display()
        ),
    )
    .with_context(error)
}
