//! A template's file while it arrives: hashed as it is written, so that it is read only once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nemordp_types::{Failure, Reason, Template, TemplateDigest};
use sha2::{Digest as _, Sha256};

/// How much is read at once of what is there already.
const BLOCK: usize = 1 << 20;

/// What has arrived so far.
pub(super) struct Part {
    path: PathBuf,
    size: u64,
    /// Moves into each blocking call and back.
    inner: Option<Inner>,
    length: u64,
}

struct Inner {
    file: File,
    hash: Sha256,
}

impl Part {
    /// Takes up what an earlier attempt left beside the final path.
    pub(super) async fn open(path: &Path, size: u64) -> Result<Self, Failure> {
        let path = {
            let mut name = path.as_os_str().to_owned();
            name.push(".part");
            PathBuf::from(name)
        };
        let place = path.clone();
        let (inner, length) = blocking(move || {
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&place)?;
            let (mut hash, mut length, mut block) = (Sha256::new(), 0u64, vec![0u8; BLOCK]);
            loop {
                let read = file.read(&mut block)?;
                if read == 0 {
                    break;
                }
                hash.update(&block[..read]);
                length += u64::try_from(read).unwrap_or(0);
            }
            Ok((Inner { file, hash }, length))
        })
        .await?;
        let mut part = Self { path, size, inner: Some(inner), length };
        if length > size {
            part.restart().await?;
        }
        Ok(part)
    }

    /// Bytes that are there.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// `disk_full`; `template_digest_mismatch` when more arrives than was announced.
    pub(super) async fn append(&mut self, chunk: Bytes) -> Result<(), Failure> {
        let more = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if self.length.saturating_add(more) > self.size {
            self.restart().await?;
            return Err(mismatch("more bytes arrived than the template's file_size says"));
        }
        let mut inner = self.take()?;
        let inner = blocking(move || {
            inner.file.write_all(&chunk)?;
            inner.hash.update(&chunk);
            Ok(inner)
        })
        .await?;
        self.inner = Some(inner);
        self.length += more;
        Ok(())
    }

    /// Compares the hash and gives the file its final name, durably.
    ///
    /// # Errors
    /// `template_digest_mismatch`: what arrived is removed, so that the next attempt begins anew.
    pub(super) async fn finish(mut self, template: &Template, path: &Path) -> Result<(), Failure> {
        let Inner { file, hash } = self.take()?;
        let (part, path, wanted) = (self.path.clone(), path.to_owned(), template.digest);
        let fits = blocking(move || {
            if TemplateDigest::from_bytes(hash.finalize().into()) != wanted {
                std::fs::remove_file(&part)?;
                return Ok(false);
            }
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(true)
        })
        .await?;
        if fits { Ok(()) } else { Err(mismatch("the bytes that arrived have another SHA-256")) }
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        let path = self.path.clone();
        let file = blocking(move || OpenOptions::new().write(true).truncate(true).open(path)).await?;
        self.inner = Some(Inner { file, hash: Sha256::new() });
        self.length = 0;
        Ok(())
    }

    fn take(&mut self) -> Result<Inner, Failure> {
        self.inner.take().ok_or_else(|| Failure::internal("a template's file was lost in an earlier failure"))
    }
}

fn mismatch(what: &str) -> Failure {
    Failure::new(
        Reason::TemplateDigestMismatch,
        format!("{what}: register the template again, with the digest of the file that is there"),
    )
    .with_field("template.digest")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Failure> {
    let result =
        tokio::task::spawn_blocking(work).await.map_err(|error| Failure::internal(format!("template: {error}")))?;
    result.map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Failure::new(Reason::DiskFull, "the node's template storage is full: make room")
                .with_context(error);
        }
        Failure::new(Reason::HostFailure, "the template's file cannot be written on the node").with_context(error)
    })
}
