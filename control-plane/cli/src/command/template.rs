//! Templates.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use nemordp_api::{NewTemplate, Personalisation, RdpSecurity, Template, TemplateFile};
use nemordp_types::template::{Personalisation as Personalised, RdpSecurity as Security};
use reqwest::Body;
use tokio_util::io::ReaderStream;

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row};

/// What can be done with templates.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Uploads a disk and registers it under its manifest's name; the newest of a name is what orders get.
    Register {
        /// The manifest that `nemordp-installer template build` wrote.
        manifest: PathBuf,
        /// The disk; the file beside the manifest with the ending qcow2 when absent.
        #[arg(long)]
        disk: Option<PathBuf>,
    },
    /// Lists them.
    List,
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Register { manifest, disk } => {
                let disk = disk.unwrap_or_else(|| manifest.with_extension("qcow2"));
                output.one(&register(client, output, &manifest, &disk).await?)
            }
            Self::List => output.rows(&client.list::<Template>("v1/templates", &[], usize::MAX).await?),
        }
    }
}

async fn register(client: &Client, output: &Output, manifest: &Path, disk: &Path) -> Result<Template, Error> {
    let text = std::fs::read(manifest).map_err(|error| unusable(manifest, &error))?;
    let template: nemordp_types::Template =
        serde_json::from_slice(&text).map_err(|error| unusable(manifest, &error))?;
    let file = tokio::fs::File::open(disk).await.map_err(|error| unusable(disk, &error))?;
    let length = file.metadata().await.map_err(|error| unusable(disk, &error))?.len();
    if length != template.file_size.0 {
        let why =
            format!("is {length} bytes, the manifest says {}: is it the manifest of this disk?", template.file_size.0);
        return Err(unusable(disk, &why));
    }
    let bar = if output.is_interactive() { bar(length) } else { ProgressBar::hidden() };
    let counted = bar.clone();
    let stream = ReaderStream::with_capacity(file, 256 * 1024).inspect(move |chunk| {
        counted.inc(chunk.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(0)));
    });
    let path = format!("v1/templates/{}/file", template.digest);
    let stored: TemplateFile = client.put_file(&path, length, Body::wrap_stream(stream)).await?;
    bar.finish_and_clear();
    let request = NewTemplate {
        name: template.name,
        digest: stored.digest,
        file_size_bytes: template.file_size,
        virtual_size_bytes: template.virtual_size,
        rdp_security: match template.rdp_security {
            Security::Nla => RdpSecurity::Nla,
            Security::Tls => RdpSecurity::Tls,
        },
        personalisation: match template.personalisation {
            Personalised::GuestAgent => Personalisation::GuestAgent,
            Personalised::CloudInit => Personalisation::CloudInit,
        },
        login_name: template.login_name,
        file: None,
    };
    client.post("v1/templates", &request).await
}

fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::File { path: file.display().to_string(), why: why.to_string() }
}

impl Row for Template {
    const HEADS: &'static [&'static str] = &["NAME", "DIGEST", "FILE", "DISK", "RDP", "PERSONALISED BY", "REGISTERED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.digest.to_string(),
            format!("{} MiB", self.file_size_bytes.0 >> 20),
            self.virtual_size_bytes.to_gib_ceil().to_string(),
            self.rdp_security.to_string(),
            self.personalisation.to_string(),
            self.registered_at.to_string(),
        ]
    }
}
