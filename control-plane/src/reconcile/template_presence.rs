//! Nodes fetch what is registered before the first order needs it, a few at a time, so that no order waits for a template
//! and the control plane's uplink serves orders too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use nemordp_model::Node;
use nemordp_providers::{Place, Provider};
use nemordp_store::{PAGE_MAX, Page, Store};
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::template::{TemplatePresence, TemplateState};
use nemordp_types::{Clock, Failure, NodeId, Template, TemplateDigest};

use super::{Outcome, Reconciler};

/// Nodes that fetch at the same time.
const FETCHES: usize = 8;
/// Nodes that are asked at the same time.
const CALLS: usize = 16;
/// How long a node is left alone with a template that it could not get.
const REST: Duration = Duration::from_secs(60);

/// A template that a node lacks.
#[derive(Debug, Clone)]
struct Gap {
    place: Place,
    name: String,
    template: Template,
}

/// What a run found, over all nodes that take new instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    nodes: usize,
    templates: usize,
    ready: usize,
    fetching: usize,
    failed: usize,
}

/// Has active nodes fetch the newest template of each name.
#[derive(Debug)]
pub struct TemplatesAhead {
    store: Store,
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    /// When a node last could not get a template.
    failed_at: Mutex<HashMap<(NodeId, TemplateDigest), Timestamp>>,
}

impl TemplatesAhead {
    /// Over this store and these nodes.
    #[must_use]
    pub fn new(store: Store, provider: Arc<dyn Provider>, clock: Arc<dyn Clock>) -> Self {
        Self { store, provider, clock, failed_at: Mutex::default() }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let templates = self.templates().await?;
        let nodes = self.nodes().await?;
        let mut counts = Counts { nodes: nodes.len(), templates: templates.len(), ..Counts::default() };
        let (mut gaps, mut details) = (Vec::new(), Vec::new());
        for node in &nodes {
            for template in &templates {
                match state(node, template.digest) {
                    Some(TemplatePresence { state: TemplateState::Ready, .. }) => counts.ready += 1,
                    Some(presence @ TemplatePresence { state: TemplateState::Fetching, .. }) => {
                        counts.fetching += 1;
                        details.push(progress(node, template, presence));
                    }
                    Some(_) | None if self.rests(node.id, template.digest) => {
                        counts.failed += 1;
                    }
                    Some(_) | None => gaps.push(Gap {
                        place: Place { node: node.id, address: node.agent_address },
                        name: node.name.as_str().to_owned(),
                        template: template.clone(),
                    }),
                }
            }
        }
        self.fill(gaps, &nodes, &mut counts, &mut details).await;
        record(counts);
        let Counts { nodes, templates, ready, fetching, failed } = counts;
        let mut text =
            format!("{templates} templates on {nodes} nodes: {ready} ready, {fetching} fetching, {failed} failed");
        if !details.is_empty() {
            details.truncate(FETCHES);
            text.push_str(&format!(" ({})", details.join("; ")));
        }
        Ok(text.into())
    }

    /// Asks nodes to fetch, one template each, as many as may fetch at once.
    async fn fill(&self, gaps: Vec<Gap>, nodes: &[Node], counts: &mut Counts, details: &mut Vec<String>) {
        let room = FETCHES.saturating_sub(counts.fetching);
        let answers: Vec<_> = stream::iter(chosen(gaps, nodes, room))
            .map(|gap| async move {
                let answer = self.provider.template_prepare(&gap.place, &gap.template).await;
                (gap, answer)
            })
            .buffer_unordered(CALLS)
            .collect()
            .await;
        for (gap, answer) in answers {
            let failure = match answer.map(|presence| presence.state) {
                Ok(TemplateState::Ready) => {
                    counts.ready += 1;
                    continue;
                }
                Ok(TemplateState::Fetching) => {
                    counts.fetching += 1;
                    details.push(format!("{} begins {}", gap.name, gap.template.name));
                    continue;
                }
                Ok(TemplateState::Failed(failure)) | Err(failure) => failure,
            };
            counts.failed += 1;
            details.push(format!("{} lacks {}: {}", gap.name, gap.template.name, failure.message));
            tracing::warn!(node_id = %gap.place.node, template = %gap.template.name, ?failure, "a node lacks a template");
            let mut failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
            failed_at.insert((gap.place.node, gap.template.digest), self.clock.now());
        }
    }

    /// Whether a node could not get a template only just now.
    fn rests(&self, node: NodeId, digest: TemplateDigest) -> bool {
        let mut failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        failed_at.retain(|_, at| at.checked_add(REST).is_ok_and(|until| until > now));
        failed_at.contains_key(&(node, digest))
    }

    async fn templates(&self) -> Result<Vec<Template>, Failure> {
        let (mut found, mut page) = (Vec::new(), Page::first(PAGE_MAX));
        loop {
            let paged = self.store.template_list(page).await?;
            found.extend(paged.items.into_iter().map(|registered| registered.template));
            let Some(next) = paged.next else { return Ok(found) };
            page = Page::after(next, PAGE_MAX);
        }
    }

    /// Nodes that may get orders.
    async fn nodes(&self) -> Result<Vec<Node>, Failure> {
        let (mut found, mut page) = (Vec::new(), Page::first(PAGE_MAX));
        loop {
            let paged = self.store.node_list(page).await?;
            found.extend(
                paged.items.into_iter().filter(|node| {
                    node.policy == NodePolicy::Active && node.availability == NodeAvailability::Available
                }),
            );
            let Some(next) = paged.next else { return Ok(found) };
            page = Page::after(next, PAGE_MAX);
        }
    }
}

fn state(node: &Node, digest: TemplateDigest) -> Option<&TemplatePresence> {
    node.template_presence.iter().find(|presence| presence.digest == digest)
}

fn progress(node: &Node, template: &Template, presence: &TemplatePresence) -> String {
    let percent = presence.fetched.0.saturating_mul(100) / template.file_size.0.max(1);
    format!("{} has {percent} % of {}", node.name, template.name)
}

/// At most one gap of each node that fetches nothing, and at most `room` of them.
fn chosen(gaps: Vec<Gap>, nodes: &[Node], room: usize) -> Vec<Gap> {
    let busy = |id: NodeId| {
        nodes.iter().any(|node| {
            node.id == id && node.template_presence.iter().any(|presence| presence.state == TemplateState::Fetching)
        })
    };
    let mut chosen: Vec<Gap> = Vec::new();
    for gap in gaps {
        if chosen.len() == room {
            break;
        }
        if !busy(gap.place.node) && chosen.iter().all(|other| other.place.node != gap.place.node) {
            chosen.push(gap);
        }
    }
    chosen
}

fn record(counts: Counts) {
    let states = [("ready", counts.ready), ("fetching", counts.fetching), ("failed", counts.failed)];
    for (state, count) in states {
        let count = u32::try_from(count).map_or(f64::MAX, f64::from);
        metrics::gauge!("nemordp_template_presence", "state" => state).set(count);
    }
}

impl Reconciler for TemplatesAhead {
    fn name(&self) -> &'static str {
        "template_presence"
    }

    fn purpose(&self) -> &'static str {
        "active nodes fetch registered templates before the first order needs them"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
