//! What costs money: capacity, ports, addresses, credentials.

use std::collections::BTreeMap;

use super::Findings;
use super::book::Book;

/// Live instances hold exactly one reservation, where they are; the nodes' sums are the sums; nothing is oversold.
pub(super) fn reservations(book: &Book, findings: &mut Findings) {
    let mut held: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let mut disks: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for row in &book.reservations {
        held.entry(row.text("instance_id")).or_default().push(row.text("node_id"));
        let sum = sums.entry(row.text("node_id")).or_default();
        *sum = (sum.0 + row.number("vcpu"), sum.1 + row.number("memory"));
        *disks.entry((row.text("node_id"), row.text("storage_class"))).or_default() += row.number("disk");
    }
    for instance in book.instances.values() {
        let (id, node) = (instance.text("id"), instance.text("node_id"));
        let nodes = held.remove(id).unwrap_or_default();
        let wanted: &[&str] = if book.is_live(instance) { &[node] } else { &[] };
        findings.check(nodes == wanted, || format!("{id} holds capacity on {nodes:?}, wanted {wanted:?}"));
    }
    findings.check(held.is_empty(), || format!("capacity is held for what does not exist: {held:?}"));
    for node in book.nodes.values() {
        let (id, sum) = (node.text("id"), sums.get(node.text("id")).copied().unwrap_or_default());
        let counted = (node.number("vcpu"), node.number("memory"));
        findings.check(counted == sum, || format!("node {id} counts {counted:?}, its reservations are {sum:?}"));
        findings
            .check(node.number("vcpu") <= node.number("vcpu_capacity"), || format!("node {id}: processors oversold"));
        findings
            .check(node.number("memory") <= node.number("memory_capacity"), || format!("node {id}: memory oversold"));
    }
    for pool in &book.pools {
        let key = (pool.text("node_id"), pool.text("storage_class"));
        let sum = disks.get(&key).copied().unwrap_or_default();
        findings.check(pool.number("used") == sum, || {
            format!("pool {key:?} counts {}, its reservations are {sum}", pool.number("used"))
        });
        findings.check(pool.number("used") <= pool.number("capacity"), || format!("pool {key:?}: disk oversold"));
    }
}

/// Live instances hold exactly the port and the address of their specification; nothing else is held; gone ones have no
/// credentials.
pub(super) fn claims(book: &Book, findings: &mut Findings) {
    let mut held: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for row in &book.claims {
        held.entry(row.text("instance_id"))
            .or_default()
            .push((row.text("kind").to_owned(), row.text("number").to_owned()));
    }
    for instance in book.instances.values() {
        let id = instance.text("id");
        let mut has = held.remove(id).unwrap_or_default();
        has.sort();
        let wanted = if book.is_live(instance) { wanted(&instance.json("spec")) } else { Vec::new() };
        findings.check(has == wanted, || format!("{id} holds {has:?}, wanted {wanted:?}"));
        let secrets = book.secrets.iter().filter(|secret| *secret == id).count();
        findings.check(book.is_live(instance) || secrets == 0, || format!("{id} is gone, but has credentials"));
    }
    findings.check(held.is_empty(), || format!("ports or addresses are held by what does not exist: {held:?}"));
}

fn wanted(spec: &serde_json::Value) -> Vec<(String, String)> {
    let port = spec.pointer("/network/endpoint/port").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let address = spec.pointer("/network/private_ipv4").and_then(serde_json::Value::as_str).unwrap_or_default();
    let number = address.parse().map_or(0, |address: std::net::Ipv4Addr| u32::from(address));
    vec![("address".to_owned(), number.to_string()), ("port".to_owned(), port.to_string())]
}
