//! Templates: a file whose bytes are those of its digest, and a manifest that names it.

use std::path::{Path, PathBuf};

use bytes::Bytes as Chunk;
use futures::{Stream, StreamExt as _};
use nemordp_store::{Idempotency, Once, Page, Paged, RegisteredTemplate};
use nemordp_types::{Bytes, Failure, Reason, Template, TemplateDigest, TemplateName};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::App;

/// Read at once from a file that is imported.
const READ_BYTES: usize = 1 << 20;

/// A file that is being received.
#[derive(Debug, Clone, Copy)]
pub struct Upload {
    /// What it must be.
    pub digest: TemplateDigest,
    /// How long it must be.
    pub size: Bytes,
}

impl App {
    /// Registers a template whose file was uploaded, or lies at `import` on this machine and is copied.
    ///
    /// # Errors
    /// `template_missing`, `template_truncated`, `template_digest_mismatch`; nothing is left behind.
    pub async fn template_register(
        &self,
        manifest: &Template,
        import: Option<&Path>,
        intention: Option<&Idempotency<'_, RegisteredTemplate>>,
    ) -> Result<Once<RegisteredTemplate>, Failure> {
        if let Some(path) = import {
            self.template_import(path, Upload { digest: manifest.digest, size: manifest.file_size }).await?;
        }
        let path = self.template_path(manifest.digest);
        let size = match tokio::fs::metadata(&path).await {
            Ok(metadata) => Bytes(metadata.len()),
            Err(error) => {
                return Err(Failure::new(
                    Reason::TemplateMissing,
                    "the file of this digest is not here: upload it first with PUT /v1/templates/{name}/file, or name `file`",
                )
                .with_field("digest")
                .with_context(error));
            }
        };
        if size != manifest.file_size {
            return Err(Failure::field("file_size_bytes", format!("the file of this digest has {}", size.0)));
        }
        check_virtual_size(&path, manifest.virtual_size).await?;
        let file_name = file_name(manifest.digest);
        Ok(self.store.template_register(manifest, &file_name, intention).await?)
    }

    /// The newest template of a name.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn template(&self, name: &TemplateName) -> Result<RegisteredTemplate, Failure> {
        Ok(self.store.template_fetch(name).await?)
    }

    /// Templates by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn templates(
        &self,
        page: Page<TemplateName>,
    ) -> Result<Paged<RegisteredTemplate, TemplateName>, Failure> {
        Ok(self.store.template_list(page).await?)
    }

    /// The file of a registered template, to be read.
    ///
    /// # Errors
    /// `template_missing` when it was never registered or its file is gone.
    pub async fn template_file(&self, digest: TemplateDigest) -> Result<File, Failure> {
        let missing = |context: &dyn std::fmt::Display| {
            Failure::new(
                Reason::TemplateMissing,
                "the control plane has no file of this digest: register the template again",
            )
            .with_field("digest")
            .with_context(context)
        };
        let registered = self.store.template_fetch_by_digest(&digest).await.map_err(|error| missing(&error))?;
        let path = self.config.template_dir().join(registered.file_name);
        File::open(&path).await.map_err(|error| missing(&error))
    }

    /// Receives a file; it is kept only when length and digest are as announced.
    ///
    /// # Errors
    /// `template_truncated`, `template_digest_mismatch`, `payload_too_large`, `disk_full`; nothing is left behind.
    pub async fn template_upload<S, E>(&self, upload: Upload, body: S) -> Result<(), Failure>
    where
        S: Stream<Item = Result<Chunk, E>> + Send,
        E: std::fmt::Display,
    {
        if upload.size.0 > self.config.http.upload_max_bytes || upload.size == Bytes::ZERO {
            let most = self.config.http.upload_max_bytes;
            return Err(
                Failure::new(Reason::PayloadTooLarge, format!("a template has 1 to {most} bytes")).with_field("size")
            );
        }
        let folder = self.config.template_dir();
        let mut nonce = [0u8; 8];
        self.entropy.fill(&mut nonce);
        let part = Part(folder.join(format!("{}.{}.part", upload.digest.hex(), hex::encode(nonce))));
        let mut file = File::create_new(&part.0).await.map_err(|error| unwritable(&error))?;
        receive(upload, body, &mut file).await?;
        file.sync_all().await.map_err(|error| unwritable(&error))?;
        tokio::fs::rename(&part.0, self.template_path(upload.digest)).await.map_err(|error| unwritable(&error))?;
        let directory = File::open(&folder).await.map_err(|error| unwritable(&error))?;
        directory.sync_all().await.map_err(|error| unwritable(&error))
    }

    async fn template_import(&self, path: &Path, upload: Upload) -> Result<(), Failure> {
        let bad = |what: &str| Failure::field("file", what.to_owned()).with_context(path.display());
        if !path.is_absolute() {
            return Err(bad("use an absolute path on the control plane's machine"));
        }
        let file = File::open(path).await.map_err(|error| bad("cannot be read there").with_context(error))?;
        let metadata = file.metadata().await.map_err(Failure::internal)?;
        if !metadata.is_file() {
            return Err(bad("is no regular file"));
        }
        self.template_upload(upload, ReaderStream::with_capacity(file, READ_BYTES)).await
    }

    fn template_path(&self, digest: TemplateDigest) -> PathBuf {
        self.config.template_dir().join(file_name(digest))
    }
}

fn file_name(digest: TemplateDigest) -> String {
    format!("{}.qcow2", digest.hex())
}

/// A file that is not whole yet; gone when it goes out of scope, however that happens.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            // Renamed: all went well.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(file = %self.0.display(), %error, "a partial upload stays behind"),
            Ok(()) => {}
        }
    }
}

async fn receive<S, E>(upload: Upload, body: S, file: &mut File) -> Result<(), Failure>
where
    S: Stream<Item = Result<Chunk, E>> + Send,
    E: std::fmt::Display,
{
    let (mut hash, mut received) = (Sha256::new(), 0u64);
    let truncated = |received: u64| {
        let message = format!("only {received} of {} bytes arrived: send the whole file again", upload.size.0);
        Failure::new(Reason::TemplateTruncated, message).with_field("file")
    };
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| truncated(received).with_context(error))?;
        received += chunk.len() as u64;
        if received > upload.size.0 {
            return Err(Failure::field(
                "size",
                format!("more than {} bytes arrived: announce the file's length", upload.size.0),
            ));
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(|error| unwritable(&error))?;
    }
    if received < upload.size.0 {
        return Err(truncated(received));
    }
    let found = TemplateDigest::from_bytes(hash.finalize().into());
    if found != upload.digest {
        let message = format!("the bytes have digest {found}: name that one, or send the right file");
        return Err(Failure::new(Reason::TemplateDigestMismatch, message).with_field("digest"));
    }
    file.flush().await.map_err(|error| unwritable(&error))
}

fn unwritable(error: &std::io::Error) -> Failure {
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    if full {
        return Failure::new(Reason::DiskFull, "the control plane's disk is full: the operator makes room")
            .with_context(error);
    }
    Failure::internal(format!("template file: {error}"))
}

/// A qcow2 file says how large its disk is (header bytes 24 to 31, big-endian); the manifest must say the same.
async fn check_virtual_size(path: &Path, announced: Bytes) -> Result<(), Failure> {
    use tokio::io::AsyncReadExt as _;
    let mut file = File::open(path).await.map_err(Failure::internal)?;
    let mut header = [0u8; 32];
    if file.read_exact(&mut header).await.is_err() || header[..4] != *b"QFI\xfb" {
        return Ok(());
    }
    let mut size = [0u8; 8];
    size.copy_from_slice(&header[24..]);
    let found = u64::from_be_bytes(size);
    if found == announced.0 {
        return Ok(());
    }
    Err(Failure::field("virtual_size_bytes", format!("the file's disk has {found}")))
}
