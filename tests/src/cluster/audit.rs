//! The independent check: after everything has settled, store, nodes and API are compared with each other.
//!
//! It shares no code with what it checks: the store is read with SQL of its own, a node's hypervisor through its files,
//! the rest through HTTP as anybody would. Each comparison counts; each that fails is a violation, in words.

mod book;
mod event;
mod money;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;

use super::node::plain;
use super::{Cluster, Domain, Result, Row, until};
use book::Book;

/// What was compared, and what did not fit.
#[derive(Debug, Default)]
pub struct Findings {
    /// Comparisons made.
    pub checked: u64,
    /// Those that failed, in words.
    pub violations: Vec<String>,
}

impl Findings {
    /// Notes one comparison.
    pub fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.violations.push(otherwise());
        }
    }

    /// Adds what another check found.
    pub fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.violations.extend(other.violations);
    }
}

/// What the storefront was told, to be held against what is.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Intentions that were named, and the order that each answer promised, without dashes.
    pub promised: BTreeMap<String, Option<String>>,
}

impl Ledger {
    /// An order was asked for; whether it is, is not known yet.
    pub fn asked(&mut self, intention: &str) {
        self.promised.entry(intention.to_owned()).or_default();
    }

    /// It was answered with this order.
    pub fn accepted(&mut self, intention: &str, order: &str) {
        self.promised.insert(intention.to_owned(), Some(plain(order)));
    }
}

impl Cluster {
    /// Waits until no saga is open. A stuck one counts as settled, and is a violation of the check that follows.
    ///
    /// # Errors
    /// Something is still open after `limit`; the error names it.
    pub async fn settle(&self, limit: Duration) -> Result<()> {
        let database = self.database().await?;
        let open = "SELECT CAST(COUNT(*) AS TEXT) AS n FROM saga WHERE status IN ('running', 'unwinding')";
        let settled = until("all sagas to end", limit, || {
            let database = &database;
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                // A store that is being restarted will answer later.
                Ok(database.count(open).await.ok().filter(|n| *n == 0).map(|_| ()))
            }
        });
        match settled.await {
            Ok(()) => Ok(()),
            Err(error) => {
                let query = "SELECT #id# AS id, kind, status, CAST(step AS TEXT) AS step, CAST(attempt AS TEXT) AS attempt, \
                             COALESCE(failure, '') AS failure FROM saga WHERE status IN ('running', 'unwinding')";
                let rows = database.rows(query).await?;
                Err(super::unusable(error, format!("still open: {rows:?}")))
            }
        }
    }

    /// Compares everything with everything. To be called when all is settled.
    ///
    /// # Errors
    /// Something cannot be read; a violation is no error.
    pub async fn audit(&self, ledger: &Ledger) -> Result<Findings> {
        let mut findings = Findings::default();
        let database = self.database().await?;
        let book = Book::read(&database).await?;
        let mut domains = BTreeMap::new();
        for node in &self.nodes {
            domains.insert(self.node_id(&node.name).await?, node.domains()?);
        }
        sagas(&book, &mut findings);
        orders(&book, ledger, &mut findings);
        money::reservations(&book, &mut findings);
        money::claims(&book, &mut findings);
        nodes(&book, &domains, &mut findings);
        event::events(&book, &mut findings);
        self.endpoints(&book, &mut findings).await;
        self.answers(&book, &mut findings).await?;
        Ok(findings)
    }

    /// What listens where: a customer's endpoint answers while the desktop runs, and never afterwards.
    async fn endpoints(&self, book: &Book, findings: &mut Findings) {
        for instance in book.instances.values() {
            let id = instance.text("id");
            let spec = instance.json("spec");
            let (Some(address), running) = (endpoint(&spec), wants_power(instance, &spec)) else { continue };
            let held = book.is_live(instance);
            if !held
                && book
                    .instances
                    .values()
                    .any(|other| book.is_live(other) && endpoint(&other.json("spec")) == Some(address))
            {
                continue;
            }
            let answers = async { Ok(TcpStream::connect(address).await.is_ok().then_some(())) };
            let open = if held && running {
                until("an endpoint", Duration::from_secs(5), || async {
                    Ok(TcpStream::connect(address).await.is_ok().then_some(()))
                })
                .await
                .is_ok()
            } else {
                matches!(answers.await, Result::Ok(Some(())))
            };
            findings.check(open == (held && running), || format!("endpoint {address} of {id}: open {open}"));
        }
    }

    /// The API tells the same.
    async fn answers(&self, book: &Book, findings: &mut Findings) -> Result<()> {
        let told = self.api.list("/v1/orders").await?;
        findings.check(told.len() == book.orders.len(), || {
            format!("API: {} orders, store: {}", told.len(), book.orders.len())
        });
        for order in &told {
            let field = |name: &str| order.get(name).and_then(Value::as_str).unwrap_or_default();
            let stored = book.orders.get(&plain(field("id"))).map(|row| row.text("state"));
            findings.check(stored == Some(field("state")), || {
                format!("order {}: API {}, store {stored:?}", field("id"), field("state"))
            });
        }
        Ok(())
    }

    /// Opens the credentials of every live instance as its customer would: what is shown must open the guest.
    ///
    /// # Errors
    /// The API does not answer.
    pub async fn reveal_all(&self) -> Result<Findings> {
        let mut findings = Findings::default();
        let book = Book::read(&self.database().await?).await?;
        let mut passwords = BTreeMap::new();
        for node in &self.nodes {
            passwords
                .extend(node.domains()?.into_iter().map(|(id, domain)| (id, domain.password().map(str::to_owned))));
        }
        for instance in book.instances.values().filter(|instance| book.is_live(instance)) {
            let id = instance.text("id");
            let path = format!("/v1/instances/{id}/credentials");
            let link = self
                .api
                .insist(reqwest::Method::POST, &path, Some(&serde_json::json!({})), &self.api.intention())
                .await?;
            // Shown before: nobody can ask again. A reset that could not be proven leaves nothing to show either.
            let Ok(url) = link.text("url") else { continue };
            let token = url.split_once('#').map(|(_, token)| token).unwrap_or_default();
            let body = serde_json::json!({ "token": token });
            let shown = self.api.once(reqwest::Method::POST, "/v1/credentials/reveal", Some(&body), None).await?;
            let password = shown.text("password").ok();
            let actual = passwords.get(id).cloned().flatten();
            findings.check(password.is_some() && password == actual, || {
                format!("{id}: what was shown does not open the guest")
            });
        }
        Ok(findings)
    }
}

fn endpoint(spec: &Value) -> Option<std::net::SocketAddr> {
    let at = |field: &str| spec.pointer(&format!("/network/endpoint/{field}"));
    let port = at("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok())?;
    Some(std::net::SocketAddr::new(at("address")?.as_str()?.parse().ok()?, port))
}

/// Whether a live instance is meant to run.
fn wants_power(instance: &Row, spec: &Value) -> bool {
    let suspended = spec.get("suspended").and_then(Value::as_bool).unwrap_or(false);
    instance.text("lifecycle") == "active" && spec.get("power").and_then(Value::as_str) == Some("on") && !suspended
}

fn sagas(book: &Book, findings: &mut Findings) {
    for saga in &book.sagas {
        let (id, kind, status) = (saga.text("id"), saga.text("kind"), saga.text("status"));
        findings.check(["done", "unwound", "cancelled"].contains(&status), || {
            format!("saga {id} ({kind}) is {status}: {}", saga.text("failure"))
        });
        findings.check(saga.text("lease_owner").is_empty(), || format!("saga {id} is over, but leased"));
    }
}

/// Each order is done or cleanly refused; each intention became one order, and the one that was promised.
fn orders(book: &Book, ledger: &Ledger, findings: &mut Findings) {
    for order in book.orders.values() {
        let (id, state) = (order.text("id"), order.text("state"));
        let lifecycle = book.instances.get(order.text("instance_id")).map_or("none", |row| row.text("lifecycle"));
        let fits = match state {
            "active" => ["active", "deleted"].contains(&lifecycle),
            "failed" | "cancelled" => lifecycle == "failed",
            "refused" => lifecycle == "none" || lifecycle == "failed",
            _ => false,
        };
        findings.check(fits, || format!("order {id} is {state}, its instance {lifecycle}"));
        let said = !order.text("failure").is_empty();
        findings.check(said == (state == "failed" || state == "refused") || state == "cancelled", || {
            format!("order {id} is {state}: failure told: {said}")
        });
    }
    let mut by_reference: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for order in book.orders.values() {
        by_reference.entry(order.text("external_reference")).or_default().push(order.text("id"));
    }
    for (intention, promised) in &ledger.promised {
        let found = by_reference.get(intention.as_str()).map(Vec::as_slice).unwrap_or_default();
        findings.check(found.len() <= 1, || format!("{intention} became {} orders", found.len()));
        if let Some(order) = promised {
            findings.check(found.contains(&order.as_str()), || {
                format!("{intention}: promised {order}, there is {found:?}")
            });
        }
    }
}

/// Every live instance is on its node, once, as the store wants it; nothing else is anywhere.
fn nodes(book: &Book, domains: &BTreeMap<String, BTreeMap<String, Domain>>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (node, there) in domains {
        for (id, domain) in there {
            findings.check(seen.insert(id.clone()), || format!("{id} is on two nodes"));
            let owner = book.instances.get(id).filter(|instance| book.is_live(instance));
            let Some(instance) = owner else {
                findings.check(false, || format!("node {node} has {id}, which nobody owns: {domain:?}"));
                continue;
            };
            findings.check(instance.text("node_id") == node, || {
                format!("{id} is on {node}, not on {}", instance.text("node_id"))
            });
            let mark = Some((id.clone(), instance.text("order_id").to_owned()));
            findings.check(domain.mark == mark, || format!("{id}: mark {:?}", domain.mark));
            let disks: Vec<_> = domain.disks.keys().cloned().collect();
            let mut wanted_disks = domain.wanted_disks();
            wanted_disks.sort();
            findings.check(disks == wanted_disks, || format!("{id} has disks {disks:?}, wanted {wanted_disks:?}"));
            let wanted = instance.json("spec");
            for field in ["network", "vcpu", "memory", "disk", "template", "guest", "disks"] {
                let (is, should) = (domain.spec.get(field), wanted.get(field));
                findings.check(is == should, || format!("{id}: {field} is {is:?}, wanted {should:?}"));
            }
            let on = wants_power(instance, &wanted);
            findings.check(domain.running == on, || format!("{id}: running {}, wanted {on}", domain.running));
            let pinned = instance.text("rdp_certificate_sha256");
            findings.check(pinned.len() == 64, || format!("{id}: no certificate is pinned"));
        }
    }
    for instance in book.instances.values().filter(|instance| book.is_live(instance)) {
        let (id, node) = (instance.text("id"), instance.text("node_id"));
        let there = domains.get(node).is_some_and(|there| there.contains_key(id));
        findings.check(there, || format!("{id} should be on node {node}, and is not"));
    }
}
