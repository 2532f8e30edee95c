//! Ports of the node's range that are not ours: something listens there, or a rule of somebody else forwards them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use nemordp_types::Failure;
use nemordp_types::node::EndpointPool;
use serde_json::Value;

use super::ruleset;
use crate::host::process;

const NFT_DEADLINE: Duration = Duration::from_secs(4);
/// More than that is a range that belongs to somebody else altogether.
const AT_MOST: usize = 512;
/// The kernel's word for a socket that listens (`include/net/tcp_states.h`).
const LISTENS: &str = "0A";

/// Looks at the sockets and rules of the machine. Rules that cannot be listed are not known, and forward nothing then.
///
/// # Errors
/// The kernel does not show its sockets.
pub async fn look(endpoints: &EndpointPool, nft: &Path) -> Result<Vec<u16>, Failure> {
    let mut taken = BTreeSet::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match tokio::fs::read_to_string(file).await {
            Ok(text) => taken.extend(listeners(&text, endpoints.address)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::internal(format!("{file}: {error}"))),
        }
    }
    // Without the contents of sets: ours may be long, and theirs are named where they matter.
    if let Ok(printed) = process::run(nft, &["-j", "-t", "list", "ruleset"], "", NFT_DEADLINE).await {
        taken.extend(forwards(&printed.stdout, endpoints));
    }
    let range = endpoints.first_port..=endpoints.last_port;
    Ok(taken.into_iter().filter(|port| range.contains(port)).take(AT_MOST).collect())
}

/// Ports of sockets that listen at this address or at all of them, from `/proc/net/tcp` or `tcp6`.
#[must_use]
pub fn listeners(text: &str, address: IpAddr) -> BTreeSet<u16> {
    text.lines().filter_map(|line| listener(line, address)).collect()
}

fn listener(line: &str, address: IpAddr) -> Option<u16> {
    let mut words = line.split_whitespace();
    let (local, state) = (words.nth(1)?, words.nth(1)?);
    let (at, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let everywhere = at.bytes().all(|digit| digit == b'0');
    // An IPv4 address stands in the kernel's byte order, alone or at the end of a mapped one.
    let last = u32::from_str_radix(at.get(at.len().checked_sub(8)?..)?, 16).ok()?;
    let here = IpAddr::V4(Ipv4Addr::from(last.to_le_bytes())) == address;
    (state == LISTENS && (everywhere || here)).then_some(port)
}

/// Ports that rules of other tables send elsewhere, from `nft -j list ruleset`.
#[must_use]
pub fn forwards(json: &str, endpoints: &EndpointPool) -> BTreeSet<u16> {
    let Ok(value) = serde_json::from_str::<Value>(json) else { return BTreeSet::new() };
    let items = value["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rules = items.iter().filter_map(|item| item.get("rule")).filter(|rule| rule["table"] != ruleset::TABLE);
    rules.flat_map(|rule| forwarded(rule, endpoints)).collect()
}

fn forwarded(rule: &Value, endpoints: &EndpointPool) -> Vec<u16> {
    let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parts.iter().any(|part| part.get("dnat").is_some() || part.get("redirect").is_some()) {
        return Vec::new();
    }
    let port = |part: &&Value| {
        let field = &part["match"]["left"]["payload"];
        field["protocol"] == "tcp" && field["field"] == "dport" && part["match"]["op"] != "!="
    };
    parts.iter().filter(port).flat_map(|part| numbers(&part["match"]["right"], endpoints)).collect()
}

/// A number, a range or a set of both, as far as it lies in the node's range.
fn numbers(right: &Value, endpoints: &EndpointPool) -> Vec<u16> {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    if let Some(one) = number(right) {
        return vec![one];
    }
    if let Some([first, last]) = right["range"].as_array().map(Vec::as_slice) {
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Vec::new() };
        return (first.max(endpoints.first_port)..=last.min(endpoints.last_port)).collect();
    }
    let elements = right["set"].as_array().map(Vec::as_slice).unwrap_or_default();
    elements.iter().flat_map(|element| numbers(element, endpoints)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINTS: EndpointPool =
        EndpointPool { address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), first_port: 40_000, last_port: 40_100 };

    #[test]
    fn only_what_listens_at_the_public_address_or_everywhere_counts() {
        // Everywhere; loopback; the public address; another one; a connection; all of IPv6; a mapped address.
        let text = "  sl  local_address rem_address   st\n\
            0: 00000000:9C40 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:9C41 00000000:0000 0A 00000000:00000000\n\
            2: 017100CB:9C42 00000000:0000 0A 00000000:00000000\n\
            3: 027100CB:9C43 00000000:0000 0A 00000000:00000000\n\
            4: 017100CB:9C44 0A7100CB:0016 01 00000000:00000000\n\
            5: 00000000000000000000000000000000:9C45 00000000000000000000000000000000:0000 0A\n\
            6: 0000000000000000FFFF0000017100CB:9C46 00000000000000000000000000000000:0000 0A\n\
            nonsense\n";
        let expected = [40_000, 40_002, 40_005, 40_006];
        assert_eq!(listeners(text, ENDPOINTS.address).into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn rules_of_others_that_forward_ports_count_and_ours_do_not() {
        let rule = |table: &str, right: &str, what: &str| {
            format!(
                r#"{{"rule": {{"family": "ip", "table": "{table}", "chain": "c", "expr": [
                {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "tcp", "field": "dport"}}}}, "right": {right}}}}},
                {{"{what}": {{"addr": "172.17.0.2", "port": 80}}}}]}}}}"#
            )
        };
        let rules = [
            rule("nat", "40010", "dnat"),
            rule("nat", r#"{"range": [40099, 50000]}"#, "redirect"),
            rule("theirs", r#"{"set": [40020, {"range": [40030, 40031]}]}"#, "dnat"),
            rule("theirs", "40050", "accept"),
            rule(ruleset::TABLE, "40060", "dnat"),
        ];
        let printed = format!(r#"{{"nftables": [{{"metainfo": {{}}}}, {}]}}"#, rules.join(","));
        let expected = [40_010, 40_020, 40_030, 40_031, 40_099, 40_100];
        assert_eq!(forwards(&printed, &ENDPOINTS).into_iter().collect::<Vec<_>>(), expected);
        assert!(forwards("nonsense", &ENDPOINTS).is_empty());
    }
}
