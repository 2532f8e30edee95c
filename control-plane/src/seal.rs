//! Seals what must lie at rest unreadable: an instance's password until it is delivered.
//!
//! A sealed value is `key id (1 byte) | nonce (12) | ciphertext and tag` of AES-256-GCM (NIST SP 800-38D), bound to the
//! instance whose secret it is: moved to another instance's row, it does not open. The key id allows rotation: a new
//! key seals, older ones still open.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use nemordp_types::{Entropy, Failure, InstanceId};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

const KEY_LEN: usize = 32;
/// How many keys one file may hold; more means that the file is not a key file.
const KEYS_MAX: usize = 16;

struct Key {
    id: u8,
    aead: LessSafeKey,
}

/// Seals and opens secrets. Cheap to clone; `Debug` shows no key.
#[derive(Clone)]
pub struct Sealer {
    /// The first one seals.
    keys: Arc<Vec<Key>>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u8> = self.keys.iter().map(|key| key.id).collect();
        f.debug_struct("Sealer").field("key_ids", &ids).finish_non_exhaustive()
    }
}

/// Makes a key file with one new key, readable by its owner only, unless one is there.
///
/// # Errors
/// When the file can neither be found nor made.
pub fn ensure_key_file(path: &Path, entropy: &dyn Entropy) -> Result<(), Failure> {
    let mut key = Zeroizing::new([0u8; KEY_LEN]);
    entropy.fill(key.as_mut());
    let mut line = Zeroizing::new(format!("1 {}\n", hex::encode(key.as_ref())));
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = match opened {
        Ok(mut file) => file.write_all(line.as_bytes()).and_then(|()| file.sync_all()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    line.zeroize();
    written.map_err(|error| Failure::field("seal_key_file", format!("{} cannot be made: {error}", path.display())))
}

impl Sealer {
    /// Reads a key file: lines of `<id 0-255> <64 hex digits>`, the first one seals, all of them open.
    ///
    /// # Errors
    /// When it is missing, not a key file, or readable by others than its owner.
    pub fn from_file(path: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, Failure> {
        let unusable = |what: &str| Failure::field("seal_key_file", format!("{} {what}", path.display()));
        let mut file = File::open(path).map_err(|error| unusable(&format!("cannot be opened: {error}")))?;
        let mode = file.metadata().map_err(|error| unusable(&error.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(unusable("is open to others than its owner; use `chmod 600`"));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(|error| unusable(&format!("cannot be read: {error}")))?;
        Self::from_text(&text, entropy).map_err(unusable)
    }

    fn from_text(text: &str, entropy: Arc<dyn Entropy>) -> Result<Self, &'static str> {
        let mut keys: Vec<Key> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let bad = "must hold lines of a key id (0-255), a space and 64 hex digits";
            let (id, digits) = line.trim().split_once(' ').ok_or(bad)?;
            let id: u8 = id.parse().map_err(|_| bad)?;
            let mut bytes = Zeroizing::new([0u8; KEY_LEN]);
            hex::decode_to_slice(digits, bytes.as_mut()).map_err(|_| bad)?;
            if keys.len() >= KEYS_MAX || keys.iter().any(|key| key.id == id) {
                return Err("must hold at most 16 keys, each id once");
            }
            let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes.as_ref()).map_err(|_| bad)?);
            keys.push(Key { id, aead });
        }
        if keys.is_empty() {
            return Err("holds no key");
        }
        Ok(Self { keys: Arc::new(keys), entropy })
    }

    /// Seals a secret of an instance.
    ///
    /// # Errors
    /// Only when the cipher itself refuses.
    pub fn seal(&self, instance: InstanceId, secret: &SecretString) -> Result<Vec<u8>, Failure> {
        let key = self.keys.first().ok_or_else(|| Failure::internal("no key to seal with"))?;
        let mut nonce = [0u8; NONCE_LEN];
        self.entropy.fill(&mut nonce);
        let mut text = Zeroizing::new(secret.expose_secret().as_bytes().to_vec());
        let tag = key
            .aead
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), bound_to(key.id, instance), &mut text)
            .map_err(|_| Failure::internal("the cipher refused to seal"))?;
        Ok([&[key.id], nonce.as_slice(), text.as_slice(), tag.as_ref()].concat())
    }

    /// Opens what was sealed for this instance.
    ///
    /// # Errors
    /// When it was sealed under a key that is not here, for another instance, or was changed.
    pub fn open(&self, instance: InstanceId, sealed: &[u8]) -> Result<SecretString, Failure> {
        let unopened = |why: &str| Failure::internal(format!("sealed secret of instance {instance}: {why}"));
        let (id, rest) = sealed.split_first().ok_or_else(|| unopened("empty"))?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(|| unopened("too short"))?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id == *id)
            .ok_or_else(|| unopened(&format!("sealed under key {id}, which the key file does not hold")))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unopened("bad nonce"))?;
        let mut text = Zeroizing::new(text.to_vec());
        let clear = key
            .aead
            .open_in_place(nonce, bound_to(*id, instance), &mut text)
            .map_err(|_| unopened("does not open: changed, or another instance's, or another key's"))?;
        std::str::from_utf8(clear).map(SecretString::from).map_err(|_| unopened("not text"))
    }
}

fn bound_to(key: u8, instance: InstanceId) -> Aad<[u8; 17]> {
    let mut bytes = [key; 17];
    bytes[1..].copy_from_slice(instance.as_uuid().as_bytes());
    Aad::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemordp_types::{ManualClock, SeededEntropy};
    use std::os::unix::fs::PermissionsExt;

    fn entropy() -> Arc<dyn Entropy> {
        Arc::new(SeededEntropy::new(5))
    }

    fn instance(seed: u64) -> InstanceId {
        InstanceId::new(&ManualClock::at_second(1), &SeededEntropy::new(seed))
    }

    fn sealer(lines: &str) -> Sealer {
        Sealer::from_text(lines, entropy()).unwrap()
    }

    #[test]
    fn a_secret_opens_for_its_own_instance_only() {
        let sealer = sealer(&format!("1 {}", "ab".repeat(32)));
        let secret = SecretString::from("Zauberwort-7");
        let sealed = sealer.seal(instance(1), &secret).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"Zauber"));
        assert_eq!(sealer.open(instance(1), &sealed).unwrap().expose_secret(), "Zauberwort-7");
        assert!(sealer.open(instance(2), &sealed).is_err());
        assert_ne!(sealer.seal(instance(1), &secret).unwrap(), sealed, "each sealing has a nonce of its own");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let sealer = sealer(&format!("1 {}", "ab".repeat(32)));
        let sealed = sealer.seal(instance(1), &SecretString::from("pw")).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open(instance(1), &changed).is_err(), "byte {at}");
        }
        for len in 0..sealed.len() {
            assert!(sealer.open(instance(1), &sealed[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn an_older_key_still_opens_after_rotation() {
        let (old, new) = (format!("1 {}", "ab".repeat(32)), format!("2 {}", "cd".repeat(32)));
        let sealed = sealer(&old).seal(instance(1), &SecretString::from("pw")).unwrap();
        let rotated = sealer(&format!("{new}\n{old}\n"));
        assert_eq!(rotated.open(instance(1), &sealed).unwrap().expose_secret(), "pw");
        assert_eq!(rotated.seal(instance(1), &SecretString::from("pw")).unwrap()[0], 2);
        assert!(sealer(&new).open(instance(1), &sealed).is_err());
    }

    #[test]
    fn the_key_file_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        assert_eq!(Sealer::from_file(&path, entropy()).unwrap_err().field.as_deref(), Some("seal_key_file"));
        ensure_key_file(&path, &SeededEntropy::new(1)).unwrap();
        let first = std::fs::read(&path).unwrap();
        ensure_key_file(&path, &SeededEntropy::new(2)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "an existing key is never replaced");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Sealer::from_file(&path, entropy()).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Sealer::from_file(&path, entropy()).unwrap_err().message.contains("chmod 600"));
    }

    #[test]
    fn broken_key_files_are_refused() {
        for bad in ["", "1", "1 zz", &format!("300 {}", "ab".repeat(32)), &format!("1 {0}\n1 {0}", "ab".repeat(32))] {
            assert!(Sealer::from_text(bad, entropy()).is_err(), "{bad:?}");
        }
        assert!(!format!("{:?}", sealer(&format!("1 {}", "ab".repeat(32)))).contains("abab"));
    }
}
