//! Golden disks on this node: fetched from the control plane once for everybody who waits, resumed after a break,
//! verified before anybody may use them.

mod part;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use nemordp_types::template::{TemplatePresence, TemplateState};
use nemordp_types::{Bytes, Failure, Reason, Retry, Template, TemplateDigest};
use tokio::sync::watch;

use crate::host::Host;
use part::Part;

/// How often fetching is tried without a single new byte.
const FRUITLESS: u32 = 3;
/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// Pause before the first new attempt; doubled each time.
const PAUSE: Duration = Duration::from_millis(200);

/// The bytes of a template from an offset on.
pub type Chunks = BoxStream<'static, Result<bytes::Bytes, Failure>>;

/// Where templates come from.
pub trait Source: Send + Sync + 'static {
    /// Opens a template at an offset.
    fn open(&self, digest: TemplateDigest, offset: u64) -> BoxFuture<'_, Result<Chunks, Failure>>;
}

/// Every template of this node.
pub struct Templates<H> {
    host: Arc<H>,
    source: Arc<dyn Source>,
    known: Mutex<HashMap<TemplateDigest, watch::Receiver<TemplatePresence>>>,
    fetched_total: AtomicU64,
}

impl<H> std::fmt::Debug for Templates<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").field("fetched_total", &self.fetched_total).finish_non_exhaustive()
    }
}

impl<H: Host> Templates<H> {
    /// None is known yet; the host is asked when one is needed.
    #[must_use]
    pub fn new(host: Arc<H>, source: Arc<dyn Source>) -> Arc<Self> {
        Arc::new(Self { host, source, known: Mutex::default(), fetched_total: AtomicU64::new(0) })
    }

    /// Bytes that were fetched since the agent started.
    #[must_use]
    pub fn fetched_total(&self) -> u64 {
        self.fetched_total.load(Ordering::Relaxed)
    }

    /// Begins to fetch unless it is there or on its way, and says how far it is.
    pub fn prepare(self: &Arc<Self>, template: &Template) -> TemplatePresence {
        self.watch(template).borrow().clone()
    }

    /// Returns when the template can be cloned.
    ///
    /// # Errors
    /// `template_missing`, `template_truncated`, `template_digest_mismatch`, `disk_full`, or what the way there says.
    pub async fn ensure(self: &Arc<Self>, template: &Template, progress: impl Fn(u64) + Send) -> Result<(), Failure> {
        let mut presence = self.watch(template);
        loop {
            let now = presence.borrow_and_update().clone();
            match now.state {
                TemplateState::Ready => return Ok(()),
                TemplateState::Failed(failure) => return Err(failure),
                TemplateState::Fetching => progress(now.fetched.0),
            }
            if presence.changed().await.is_err() {
                return Err(Failure::internal("fetching a template ended without a word"));
            }
        }
    }

    /// Every template that is there or on its way.
    ///
    /// # Errors
    /// The host does not answer.
    pub async fn list(&self) -> Result<Vec<TemplatePresence>, Failure> {
        let ready = self.host.template_list().await?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<TemplatePresence> = known
            .values()
            .map(|presence| presence.borrow().clone())
            .filter(|presence| !ready.contains(&presence.digest) && presence.state != TemplateState::Ready)
            .collect();
        all.extend(ready.into_iter().map(|digest| TemplatePresence {
            digest,
            state: TemplateState::Ready,
            fetched: Bytes::ZERO,
        }));
        all.sort_unstable_by_key(|presence| presence.digest);
        Ok(all)
    }

    fn watch(self: &Arc<Self>, template: &Template) -> watch::Receiver<TemplatePresence> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(presence) = known.get(&template.digest) {
            let usable = match presence.borrow().state {
                TemplateState::Fetching => presence.has_changed().is_ok(),
                TemplateState::Ready => self.host.template_path(template.digest).exists(),
                TemplateState::Failed(_) => false,
            };
            if usable {
                return presence.clone();
            }
        }
        let first = TemplatePresence { digest: template.digest, state: TemplateState::Fetching, fetched: Bytes::ZERO };
        let (sender, presence) = watch::channel(first);
        known.insert(template.digest, presence.clone());
        let (this, template) = (Arc::clone(self), template.clone());
        tokio::spawn(async move {
            let state = match this.bring(&template, &sender).await {
                Ok(()) => TemplateState::Ready,
                Err(failure) => {
                    tracing::warn!(template = %template.name, digest = %template.digest, ?failure, "not usable");
                    TemplateState::Failed(failure)
                }
            };
            sender.send_modify(|presence| presence.state = state);
        });
        presence
    }

    async fn bring(&self, template: &Template, progress: &watch::Sender<TemplatePresence>) -> Result<(), Failure> {
        if self.host.template_list().await?.contains(&template.digest) {
            return Ok(());
        }
        let path = self.host.template_path(template.digest);
        if !path.exists() {
            self.fetch(template, &path, progress).await?;
        }
        self.host.template_adopt(template).await
    }

    async fn fetch(
        &self,
        template: &Template,
        path: &Path,
        progress: &watch::Sender<TemplatePresence>,
    ) -> Result<(), Failure> {
        let size = template.file_size.0;
        let mut part = Part::open(path, size).await?;
        let (mut fruitless, mut pause) = (0, PAUSE);
        while part.length() < size {
            let before = part.length();
            let result = self.receive(template.digest, &mut part, progress).await;
            fruitless = if part.length() > before { 0 } else { fruitless + 1 };
            match result {
                Err(failure) if failure.reason.retry() == Retry::Permanent || failure.reason == Reason::DiskFull => {
                    return Err(failure);
                }
                Err(failure) if fruitless >= FRUITLESS => return Err(failure),
                Ok(()) if part.length() < size && fruitless >= FRUITLESS => {
                    return Err(Failure::new(
                        Reason::TemplateTruncated,
                        format!(
                            "the control plane has {} of the {size} bytes of {}: register the template again from its whole file",
                            part.length(),
                            template.name
                        ),
                    )
                    .with_field("template"));
                }
                Ok(()) | Err(_) => {}
            }
            if part.length() < size {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        }
        part.finish(template, path).await
    }

    async fn receive(
        &self,
        digest: TemplateDigest,
        part: &mut Part,
        progress: &watch::Sender<TemplatePresence>,
    ) -> Result<(), Failure> {
        let silent = |_| Failure::new(Reason::Unavailable, "the control plane fell silent while sending a template");
        let opened = tokio::time::timeout(SILENCE, self.source.open(digest, part.length())).await;
        let mut chunks = opened.map_err(silent)??;
        while let Some(chunk) = tokio::time::timeout(SILENCE, chunks.next()).await.map_err(silent)? {
            let chunk = chunk?;
            self.fetched_total.fetch_add(u64::try_from(chunk.len()).unwrap_or(0), Ordering::Relaxed);
            part.append(chunk).await?;
            progress.send_modify(|presence| presence.fetched = Bytes(part.length()));
        }
        Ok(())
    }
}
