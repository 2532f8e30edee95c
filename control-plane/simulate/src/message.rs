//! Fleets and events as JSON. Unknown fields are ignored, null is the same as absent.

use serde::{Deserialize, Deserializer};

use crate::amounts::Amounts;

/// A line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    /// The fleet; the first line.
    pub fleet: Option<FleetMessage>,
    /// When, seconds.
    #[serde(deserialize_with = "number")]
    pub t: Option<f64>,
    /// An order comes.
    pub arrive: Option<ArriveMessage>,
    /// An order ends.
    pub depart: Option<DepartMessage>,
    /// A node goes down.
    pub node_down: Option<String>,
    /// A node comes back.
    pub node_up: Option<String>,
}

/// The fleet and what may be ordered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FleetMessage {
    /// The nodes.
    pub nodes: Option<Vec<NodeMessage>>,
    /// The plans.
    pub plans: Option<Vec<PlanMessage>>,
    /// How many moves are allowed.
    pub migration_budget: Option<BudgetMessage>,
    /// What `ends_at` is worth: `none`, `noisy`, `exact`.
    pub lifetimes: Option<String>,
}

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeMessage {
    /// Its id.
    pub id: Option<String>,
    /// How many processors are sold for each that it has.
    #[serde(deserialize_with = "number")]
    pub overcommit: Option<f64>,
    /// What it has.
    #[serde(flatten)]
    pub amounts: AmountsMessage,
}

/// A plan.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PlanMessage {
    /// Its id.
    pub id: Option<String>,
    /// What an order of it takes.
    #[serde(flatten)]
    pub amounts: AmountsMessage,
    /// What an hour of it costs on a cloud.
    #[serde(deserialize_with = "number")]
    pub overflow_per_hour: Option<f64>,
}

/// How many moves are allowed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BudgetMessage {
    /// In one answer.
    #[serde(deserialize_with = "number")]
    pub per_order: Option<f64>,
    /// Per thousand orders that came.
    #[serde(deserialize_with = "number")]
    pub per_1000_orders: Option<f64>,
}

/// An order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ArriveMessage {
    /// Its id.
    pub order: Option<String>,
    /// Which plan, unless amounts are given.
    pub plan: Option<String>,
    /// What it takes.
    #[serde(flatten)]
    pub amounts: AmountsMessage,
    /// What an hour of it costs on a cloud, where no plan says so.
    #[serde(deserialize_with = "number")]
    pub overflow_per_hour: Option<f64>,
    /// When it is said to end, seconds.
    #[serde(deserialize_with = "number")]
    pub ends_at: Option<f64>,
    /// Whose it is: any value, equal for orders of the same customer.
    #[serde(deserialize_with = "any")]
    pub tenant: Option<String>,
}

/// An order that ends.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DepartMessage {
    /// Its id.
    pub order: Option<String>,
}

/// Amounts; absent ones are zero.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct AmountsMessage {
    #[serde(deserialize_with = "number")]
    vcpu: Option<f64>,
    #[serde(deserialize_with = "number")]
    mem_mib: Option<f64>,
    #[serde(deserialize_with = "number")]
    disk_gib: Option<f64>,
    #[serde(deserialize_with = "number")]
    gpus: Option<f64>,
}

impl AmountsMessage {
    /// Whether any of them was said.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.vcpu.is_some() || self.mem_mib.is_some() || self.disk_gib.is_some() || self.gpus.is_some()
    }

    fn each(&self) -> [f64; 4] {
        [self.vcpu, self.mem_mib, self.disk_gib, self.gpus].map(|value| value.unwrap_or(0.0))
    }

    /// What a node sells: processors times overcommit, rounded down.
    #[must_use]
    pub fn capacity(&self, overcommit: f64) -> Amounts {
        let [vcpu, memory, disk, gpus] = self.each();
        Amounts([vcpu * overcommit, memory, disk, gpus].map(|value| whole(value.floor())))
    }

    /// What an order takes; nothing when an amount is negative or no number. Beyond the largest number nothing fits.
    #[must_use]
    pub fn demand(&self) -> Option<Amounts> {
        let each = self.each();
        let sane = each.iter().all(|value| *value >= 0.0 && *value < f64::from(u32::MAX));
        sane.then(|| Amounts(each.map(|value| whole(value.ceil()))))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as a float cast does")]
fn whole(value: f64) -> u32 {
    value as u32
}

/// A number, or null.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Option::<f64>::deserialize(deserializer)
}

/// Any value by how it is written, or null.
fn any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(if value.is_null() { None } else { Some(value.to_string()) })
}
