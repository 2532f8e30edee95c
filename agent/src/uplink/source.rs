//! Templates from the control plane.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use nemordp_types::{Failure, TemplateDigest};
use nemordp_wire::{status, template, v1};

use super::Uplink;
use crate::template::{Chunks, Source};

/// Streams templates over the uplink.
#[derive(Debug, Clone)]
pub struct ControlPlaneSource(pub Arc<Uplink>);

impl Source for ControlPlaneSource {
    fn open(&self, digest: TemplateDigest, offset: u64) -> BoxFuture<'_, Result<Chunks, Failure>> {
        Box::pin(async move {
            let request = v1::FetchTemplateRequest { digest: template::encode_digest(digest), offset };
            let mut control = self.0.control().await?;
            let opened = control.fetch_template(request).await.map_err(|status| {
                self.0.forget_channel();
                status::from_status(&status)
            })?;
            let chunks = opened.into_inner().map(|chunk| -> Result<Bytes, Failure> {
                chunk.map(|chunk| chunk.data).map_err(|status| status::from_status(&status))
            });
            Ok(chunks.boxed())
        })
    }
}
