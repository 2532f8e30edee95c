//! What the outside is told: each change once.

use std::collections::BTreeMap;

use super::Findings;
use super::book::Book;

/// Each state that an order or an instance reached was told exactly once.
pub(super) fn events(book: &Book, findings: &mut Findings) {
    let mut orders: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let mut instances: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for row in &book.events {
        let kind = row.text("kind");
        if kind.starts_with("order.") {
            *orders.entry((kind, row.text("order_id"))).or_default() += row.number("n");
        } else if kind.starts_with("instance.") {
            *instances.entry((kind, row.text("instance_id"))).or_default() += row.number("n");
        }
    }
    for order in book.orders.values() {
        let (id, state) = (order.text("id"), order.text("state"));
        let told = |kind: &str| orders.get(&(kind, id)).copied().unwrap_or_default();
        findings.check(told("order.accepted") == 1, || {
            format!("order {id}: accepted was told {} times", told("order.accepted"))
        });
        let ends = ["active", "failed", "cancelled", "refused"];
        for end in ends {
            let (wanted, times) = (i64::from(end == state), told(&format!("order.{end}")));
            findings.check(times == wanted, || format!("order {id} is {state}: order.{end} was told {times} times"));
        }
        findings.check(told("order.provisioning") <= 1, || format!("order {id}: provisioning was told twice"));
    }
    for instance in book.instances.values() {
        let (id, lifecycle) = (instance.text("id"), instance.text("lifecycle"));
        let told = |kind: &str| instances.get(&(kind, id)).copied().unwrap_or_default();
        let delivered = book.orders.get(instance.text("order_id")).is_some_and(|order| order.text("state") == "active");
        let gone = !book.is_live(instance);
        for (kind, wanted) in [
            ("instance.created", true),
            ("instance.active", delivered),
            ("instance.deleting", lifecycle == "deleted"),
            ("instance.deleted", lifecycle == "deleted"),
            ("instance.failed", lifecycle == "failed"),
            ("instance.released", gone),
        ] {
            let times = told(kind);
            findings
                .check(times == i64::from(wanted), || format!("{id} is {lifecycle}: {kind} was told {times} times"));
        }
    }
}
