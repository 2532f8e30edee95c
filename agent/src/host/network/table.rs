//! Applies the rules: one transaction each time, from all bindings, with the counters carried over.

use std::collections::BTreeMap;
use std::time::Duration;

use nemordp_types::{Failure, InstanceId, Reason};
use serde_json::Value;
use tokio::sync::Mutex;

use super::NetworkSettings;
use super::ruleset::{self, Count, Counts};
use crate::host::{Binding, process};

const NFT_DEADLINE: Duration = Duration::from_secs(20);

/// The node's tables; changes wait for each other.
pub struct Tables {
    settings: NetworkSettings,
    bindings: Mutex<Option<BTreeMap<InstanceId, Binding>>>,
}

impl Tables {
    /// Nothing is known and nothing changed until [`Tables::rebuild`].
    #[must_use]
    pub fn new(settings: NetworkSettings) -> Self {
        Self { settings, bindings: Mutex::new(None) }
    }

    /// Whether the bindings are known, so that one of them can be added or removed.
    pub async fn are_known(&self) -> bool {
        self.bindings.lock().await.is_some()
    }

    /// Makes the rules anew for exactly these bindings.
    pub async fn rebuild(&self, bindings: &[Binding]) -> Result<(), Failure> {
        let mut known = self.bindings.lock().await;
        let wanted: BTreeMap<InstanceId, Binding> = bindings.iter().map(|b| (b.instance_id, *b)).collect();
        self.apply(&wanted).await?;
        *known = Some(wanted);
        Ok(())
    }

    /// Adds or replaces one binding.
    pub async fn add(&self, binding: &Binding) -> Result<(), Failure> {
        let mut known = self.bindings.lock().await;
        let mut wanted = known.clone().unwrap_or_default();
        if wanted.insert(binding.instance_id, *binding) == Some(*binding) {
            return Ok(());
        }
        self.apply(&wanted).await?;
        *known = Some(wanted);
        Ok(())
    }

    /// Removes one binding; nothing when there is none.
    pub async fn remove(&self, instance: InstanceId) -> Result<(), Failure> {
        let mut known = self.bindings.lock().await;
        let mut wanted = known.clone().unwrap_or_default();
        if wanted.remove(&instance).is_none() {
            return Ok(());
        }
        self.apply(&wanted).await?;
        *known = Some(wanted);
        Ok(())
    }

    async fn apply(&self, wanted: &BTreeMap<InstanceId, Binding>) -> Result<(), Failure> {
        let bindings: Vec<Binding> = wanted.values().copied().collect();
        refuse_shared(&self.settings, &bindings)?;
        let counts = self.counts().await;
        let text = ruleset::render(&self.settings, &bindings, &counts);
        process::run(&self.settings.nft, &["-f", "-"], &text, NFT_DEADLINE).await.map(drop).map_err(|failure| {
            Failure::new(Reason::NetworkFailure, "the node's firewall rules could not be set; see its log")
                .with_context(failure.context.unwrap_or(failure.message))
        })
    }

    /// Counters as they stand; none when there is no table yet.
    pub async fn counts(&self) -> Counts {
        let list = ["-j", "list", "counters", "table", "inet", ruleset::TABLE];
        match process::run(&self.settings.nft, &list, "", NFT_DEADLINE).await {
            Ok(printed) => read_counts(&printed.stdout),
            Err(_) => Counts::new(),
        }
    }
}

/// Two instances with one address or one endpoint: a defect of whoever gave them out, and no rule can serve both.
fn refuse_shared(settings: &NetworkSettings, bindings: &[Binding]) -> Result<(), Failure> {
    let mut addresses = BTreeMap::new();
    let mut endpoints = BTreeMap::new();
    for binding in bindings {
        ruleset::check(settings, binding)?;
        let twice = |field: &str, other: InstanceId| {
            Failure::new(Reason::Conflict, format!("instance {other} has it already; release it there first"))
                .with_field(field)
                .with_context(format!("wanted by instance {}", binding.instance_id))
        };
        if let Some(other) = addresses.insert(binding.network.private_ipv4, binding.instance_id) {
            return Err(twice("network.private_ipv4", other));
        }
        if let Some(other) = endpoints.insert(binding.network.endpoint, binding.instance_id) {
            return Err(twice("network.endpoint", other));
        }
    }
    Ok(())
}

/// Reads `nft -j list counters`.
fn read_counts(json: &str) -> Counts {
    let Ok(value) = serde_json::from_str::<Value>(json) else { return Counts::new() };
    let items = value["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |item: &Value| {
        let counter = item.get("counter")?;
        let count = Count { packets: counter["packets"].as_u64()?, bytes: counter["bytes"].as_u64()? };
        Some((counter["name"].as_str()?.to_owned(), count))
    };
    items.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_what_nft_prints() {
        let printed = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "inet", "name": "sent_0a400002", "table": "nemordp", "handle": 4, "packets": 7, "bytes": 420}}]}"#;
        assert_eq!(read_counts(printed)["sent_0a400002"], Count { packets: 7, bytes: 420 });
        assert!(read_counts("nonsense").is_empty());
    }
}
