//! What an order asks of the place beyond region and amounts: labels, owner, company.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use nemordp_types::{Failure, TenantId};
use serde::{Deserialize, Deserializer, Serialize};

use super::request::Affinity;
use crate::label::Label;

/// Labels of one node or plan at most: each is compared with each order.
pub const LABELS_MAX: usize = 32;

/// A group of instances. Groups belong to their tenant: two tenants' equal names are two groups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Whose.
    pub tenant: TenantId,
    /// How the tenant calls it.
    pub name: Label,
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

impl FromStr for GroupKey {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts = text.split_once('/').ok_or_else(|| Failure::field("group", "use TENANT/NAME"))?;
        Ok(Self { tenant: parts.0.parse()?, name: Label::new(parts.1, "group")? })
    }
}

impl Serialize for GroupKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Those of a group that one node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Members {
    /// How many.
    pub count: u32,
    /// Whether one of them was promised to stay alone: no other may join it.
    pub apart: bool,
}

impl Members {
    /// Whether one more of this affinity may lie beside them.
    #[must_use]
    pub const fn admit(self, affinity: Affinity) -> bool {
        let alone = match affinity {
            Affinity::Apart => true,
            Affinity::Any | Affinity::PreferApart | Affinity::PreferTogether => self.apart,
        };
        self.count == 0 || !alone
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, affinity: Affinity) -> Self {
        Self { count: self.count.saturating_add(1), apart: self.apart || matches!(affinity, Affinity::Apart) }
    }

    /// With one less.
    #[must_use]
    pub const fn without(self, affinity: Affinity) -> Self {
        Self { count: self.count.saturating_sub(1), apart: self.apart && !matches!(affinity, Affinity::Apart) }
    }
}

/// What an instance asks of its node beyond region and amounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Siting {
    /// Labels that the node must have; the plan's at the time of the order.
    pub labels: BTreeSet<Label>,
    /// Whether its tenant's instances may only lie on nodes that are kept for the tenant.
    pub pinned: bool,
    /// Which of its tenant's groups it belongs to.
    pub group: Option<Label>,
    /// Where the others of the group should be.
    pub affinity: Affinity,
    /// Whether GPUs of another model would do as well as those that it has; what its plan said when it was ordered.
    #[serde(default)]
    pub any_gpu_model: bool,
}

impl Default for Siting {
    fn default() -> Self {
        Self { labels: BTreeSet::new(), pinned: false, group: None, affinity: Affinity::Any, any_gpu_model: false }
    }
}

impl Siting {
    /// What a storefront wrote: a group, and where its members should be.
    ///
    /// # Errors
    /// A name that is no label; an affinity without a group. Both name the field.
    pub fn new(group: Option<String>, affinity: Option<Affinity>) -> Result<Self, Failure> {
        let group = group.map(|name| Label::new(name, "placement_group")).transpose()?;
        if group.is_none() && affinity.is_some_and(|affinity| affinity != Affinity::Any) {
            let fix = "an affinity is about others: name the group in placement_group, or leave affinity out";
            return Err(Failure::field("placement_group", fix));
        }
        Ok(Self { group, affinity: affinity.unwrap_or(Affinity::Any), ..Self::default() })
    }

    /// The group, with its owner.
    #[must_use]
    pub fn group_of(&self, tenant: TenantId) -> Option<GroupKey> {
        self.group.clone().map(|name| GroupKey { tenant, name })
    }

    /// Whether a node with these labels, kept for this tenant or for nobody, suits an instance of `tenant`.
    #[must_use]
    pub fn suits(&self, tenant: TenantId, labels: &BTreeSet<Label>, pinned_to: Option<TenantId>) -> bool {
        let own = pinned_to == Some(tenant);
        (own || (pinned_to.is_none() && !self.pinned)) && self.labels.is_subset(labels)
    }
}

/// Labels as people wrote them; `field` names the request field in the error.
///
/// # Errors
/// More than [`LABELS_MAX`], or one that is no label.
pub fn labels(texts: impl IntoIterator<Item = String>, field: &str) -> Result<BTreeSet<Label>, Failure> {
    let labels = texts.into_iter().map(|text| Label::new(text, field)).collect::<Result<BTreeSet<_>, _>>()?;
    not_too_many(&labels, field)?;
    Ok(labels)
}

/// Refuses more than [`LABELS_MAX`].
///
/// # Errors
/// Naming the field.
pub fn not_too_many(labels: &BTreeSet<Label>, field: &str) -> Result<(), Failure> {
    if labels.len() <= LABELS_MAX {
        return Ok(());
    }
    Err(Failure::field(field, format!("at most {LABELS_MAX} labels, and these would be {}", labels.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u8) -> TenantId {
        format!("{number:032x}").parse().unwrap()
    }

    fn label(text: &str) -> Label {
        Label::new(text, "name").unwrap()
    }

    #[test]
    fn whoever_was_promised_to_be_alone_is_not_joined() {
        let none = Members::default();
        for affinity in Affinity::ALL {
            assert!(none.admit(*affinity), "{affinity}: nobody is there");
            assert!(!none.with(Affinity::Apart).admit(*affinity), "{affinity} joins one that stands apart");
            assert_eq!(none.with(Affinity::Any).admit(*affinity), *affinity != Affinity::Apart, "{affinity}");
            assert_eq!(none.with(*affinity).without(*affinity), none);
        }
    }

    #[test]
    fn a_group_is_written_with_its_owner_and_read_back() {
        let key = GroupKey { tenant: tenant(7), name: label("web/1") };
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<GroupKey>(&text).unwrap(), key);
        assert!("web".parse::<GroupKey>().is_err());
    }

    #[test]
    fn labels_and_owners_decide_who_may_come() {
        let (own, other) = (tenant(1), tenant(2));
        let labels = BTreeSet::from([label("ssd")]);
        let plain = Siting::default();
        let picky = Siting { labels: labels.clone(), ..Siting::default() };
        let bound = Siting { pinned: true, ..Siting::default() };
        assert!(plain.suits(own, &labels, None) && plain.suits(own, &labels, Some(own)));
        assert!(!plain.suits(own, &labels, Some(other)));
        assert!(picky.suits(own, &labels, None) && !picky.suits(own, &BTreeSet::new(), None));
        assert!(bound.suits(own, &labels, Some(own)) && !bound.suits(own, &labels, None));
    }

    #[test]
    fn what_cannot_be_used_names_its_field() {
        let field = |failure: Failure| failure.field.unwrap();
        assert_eq!(field(Siting::new(None, Some(Affinity::Apart)).unwrap_err()), "placement_group");
        assert_eq!(field(Siting::new(Some(" a".to_owned()), None).unwrap_err()), "placement_group");
        assert_eq!(field(labels([String::new()], "labels").unwrap_err()), "labels");
        let many = (0..=LABELS_MAX).map(|number| format!("l{number}"));
        assert_eq!(field(labels(many, "labels").unwrap_err()), "labels");
        let most = (0..LABELS_MAX).map(|number| format!("l{number}"));
        assert_eq!(labels(most, "labels").unwrap().len(), LABELS_MAX);
    }
}
