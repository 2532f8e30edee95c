//! The rules of the guests' network, each shown from inside: namespaces with virtual cables stand for the node, two
//! guests and the world outside. Needs root and `nft`; says so and passes where it has neither.
#![cfg(feature = "libvirt")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where it cannot go on, and says what it skips"
)]
#![expect(clippy::disallowed_methods, reason = "the test builds its namespaces with the host's own tools")]

mod space;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use nemordp_agent::host::Binding;
use nemordp_agent::host::network::table::Tables;
use nemordp_agent::host::network::{ConnectionLimit, NetworkSettings, ruleset, sysctl, tap_name};
use nemordp_types::instance::NetworkSpec;
use nemordp_types::node::EndpointPool;
use nemordp_types::{Endpoint, InstanceId, MacAddr};
use space::Space;
use uuid::Uuid;

const GUEST_A: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
const GUEST_B: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 3);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 25);
const OTHER_NODE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// Longer than anything takes that works.
pub(crate) const SHORT: Duration = Duration::from_millis(600);

struct Rig {
    node: Space,
    a: Space,
    b: Space,
    outside: Space,
    tables: std::sync::Arc<Tables>,
}

fn is_possible() -> bool {
    let nft = std::path::Path::new("/usr/sbin/nft").exists();
    let possible = nix::unistd::geteuid().is_root() && nft;
    if !possible {
        println!("skipped: the rules are tested in network namespaces, which needs root and /usr/sbin/nft");
    }
    possible
}

fn settings(incoming: ConnectionLimit) -> NetworkSettings {
    let endpoints = EndpointPool { address: PUBLIC.into(), first_port: 40000, last_port: 40100 };
    let mut settings = NetworkSettings::new("10.64.0.0/24".parse().unwrap(), endpoints);
    settings.closed_destinations = vec![OTHER_NODE.to_string().parse().unwrap()];
    settings.incoming = incoming;
    settings
}

fn binding(guest: Ipv4Addr) -> Binding {
    let number = guest.octets()[3];
    Binding {
        instance_id: InstanceId::from_uuid(Uuid::from_u128(u128::from(number))),
        network: NetworkSpec {
            mac: MacAddr::of_private_ipv4(guest),
            private_ipv4: guest,
            endpoint: Endpoint { address: PUBLIC.into(), port: 40000 + u16::from(number) },
        },
    }
}

/// Runs the agent's own code in the node's namespace: what it starts inherits the namespace of its thread.
fn in_node<T, F>(rig_node: &Space, work: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    rig_node.run(move || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work()))
}

fn plug_guest(node: &Space, guest: &Space, address: Ipv4Addr, isolated: bool) {
    let (tap, mac, pid) = (tap_name(address), MacAddr::of_private_ipv4(address), guest.0.id());
    let isolated = if isolated { "on" } else { "off" };
    node.sh(&format!(
        "ip link add {tap} type veth peer name eth0 address {mac} netns {pid}
         ip link set {tap} master nemordp0 up; bridge link set dev {tap} isolated {isolated}"
    ));
    guest.sh(&format!(
        "ip link set lo up; ip link set eth0 up; ip addr add {address}/24 dev eth0; ip route add default via {GATEWAY}"
    ));
}

fn rig_with(isolated: bool, incoming: ConnectionLimit) -> Rig {
    let (node, a, b, outside) = (Space::new(), Space::new(), Space::new(), Space::new());
    node.sh(&format!(
        "ip link set lo up
         ip link add nemordp0 type bridge stp_state 0 forward_delay 0; ip addr add {GATEWAY}/24 dev nemordp0
         ip link set nemordp0 up
         ip link add up0 type veth peer name eth0 netns {}
         ip addr add {PUBLIC}/24 dev up0; ip link set up0 up; ip route add default via 203.0.113.9
         nft add table inet theirs; nft add chain inet theirs mine",
        outside.0.id()
    ));
    outside.sh(&format!(
        "ip link set lo up; ip link set eth0 up
         ip addr add 203.0.113.9/24 dev eth0; ip addr add 203.0.113.10/24 dev eth0
         for a in {WORLD} {OTHER_NODE} {PRIVATE}; do ip addr add $a/32 dev lo; done"
    ));
    plug_guest(&node, &a, GUEST_A, isolated);
    plug_guest(&node, &b, GUEST_B, isolated);
    let tables = std::sync::Arc::new(Tables::new(settings(incoming)));
    let shared = std::sync::Arc::clone(&tables);
    in_node(&node, move || async move {
        shared.rebuild(&[binding(GUEST_A), binding(GUEST_B)]).await.unwrap();
        sysctl::prepare("nemordp0").await.unwrap();
    });
    a.serve(GUEST_A, 3389, "a");
    b.serve(GUEST_B, 3389, "b");
    Rig { node, a, b, outside, tables }
}

fn rig() -> Rig {
    rig_with(true, ConnectionLimit { per_minute: 600, burst: 100 })
}

impl Rig {
    fn count(&self, name: &'static str) -> u64 {
        let tables = std::sync::Arc::clone(&self.tables);
        in_node(&self.node, move || async move { tables.counts().await.get(name).map_or(0, |count| count.packets) })
    }
}

#[test]
fn a_forwarded_port_reaches_its_guest_from_outside_and_from_the_node_itself() {
    if !is_possible() {
        return;
    }
    let rig = rig();
    assert_eq!(rig.outside.ask(PUBLIC, 40002).unwrap(), "a 203.0.113.9", "the guest sees who connects");
    assert_eq!(rig.outside.ask(PUBLIC, 40003).unwrap(), "b 203.0.113.9");
    assert!(rig.node.ask(PUBLIC, 40002).unwrap().starts_with("a "));
    assert_eq!(rig.outside.ask(PUBLIC, 40004), None);
    rig.outside.sh(&format!("ip route add 10.64.0.0/24 via {PUBLIC}"));
    assert_eq!(rig.outside.ask(GUEST_A, 3389), None, "only the endpoint leads to a guest");
}

#[test]
fn a_removed_binding_is_closed_and_the_rest_stays_with_its_counters() {
    if !is_possible() {
        return;
    }
    let rig = rig();
    rig.outside.ask(PUBLIC, 40003).unwrap();
    let before = rig.count("received_0a400003");
    assert!(before > 0);
    let tables = std::sync::Arc::clone(&rig.tables);
    in_node(&rig.node, move || async move {
        for _ in 0..2 {
            tables.remove(binding(GUEST_A).instance_id).await.unwrap();
        }
    });
    assert_eq!(rig.outside.ask(PUBLIC, 40002), None);
    assert!(rig.count("received_0a400003") >= before);
    assert_eq!(rig.count("received_0a400002"), 0);
    rig.outside.ask(PUBLIC, 40003).unwrap();
    let tables = std::sync::Arc::clone(&rig.tables);
    in_node(&rig.node, move || async move { tables.add(&binding(GUEST_A)).await.unwrap() });
    assert!(rig.outside.ask(PUBLIC, 40002).is_some());
    rig.node.sh("nft list chain inet theirs mine");
}

#[test]
fn guests_do_not_reach_each_other() {
    if !is_possible() {
        return;
    }
    for isolated in [true, false] {
        // Without the bridge's own isolation the rules alone hold.
        let rig = rig_with(isolated, ConnectionLimit { per_minute: 600, burst: 100 });
        assert_eq!(rig.a.ask(GUEST_B, 3389), None);
        assert_eq!(rig.b.ask(GUEST_A, 3389), None);
        assert_eq!(rig.a.ask(PUBLIC, 40003), None, "nor by the other's endpoint");
        rig.a.sh(&format!("ip route add {GUEST_B}/32 via {GATEWAY}"));
        assert_eq!(rig.a.ask(GUEST_B, 3389), None, "nor through the node");
        assert!(rig.outside.ask(PUBLIC, 40003).is_some(), "while both are there");
    }
}

#[test]
fn of_the_node_a_guest_reaches_dhcp_and_dns_only() {
    if !is_possible() {
        return;
    }
    let rig = rig();
    for port in [22, 53] {
        rig.node.serve(GATEWAY, port, "node");
    }
    rig.node.serve(PUBLIC, 22, "node");
    let (dhcp, dns, other) = (rig.node.listen_udp(67), rig.node.listen_udp(53), rig.node.listen_udp(123));
    assert_eq!(rig.a.ask(GATEWAY, 22), None);
    assert_eq!(rig.a.ask(PUBLIC, 22), None);
    assert!(rig.a.ask(GATEWAY, 53).is_some());
    rig.a.send_udp(0, GATEWAY, 123);
    rig.a.send_udp(0, GATEWAY, 53);
    assert_eq!(dns.recv_timeout(SHORT).unwrap().ip(), GUEST_A);
    assert!(other.recv_timeout(SHORT).is_err());
    rig.a.send_udp(68, Ipv4Addr::BROADCAST, 67);
    dhcp.recv_timeout(SHORT).unwrap();
    rig.a.sh("ip addr flush dev eth0; ip route add default dev eth0");
    rig.a.send_udp(68, Ipv4Addr::BROADCAST, 67);
    assert!(dhcp.recv_timeout(SHORT).unwrap().ip().is_unspecified(), "a guest without an address can ask for one");
    assert!(rig.count("refused_node") > 0);
}

#[test]
fn a_guest_reaches_the_world_but_no_mail_server_and_nothing_private() {
    if !is_possible() {
        return;
    }
    let rig = rig();
    for address in [WORLD, OTHER_NODE, PRIVATE] {
        rig.outside.serve(address, 443, "world");
    }
    rig.outside.serve(WORLD, 25, "mail");
    assert_eq!(rig.a.ask(WORLD, 443).unwrap(), "world 203.0.113.1", "masqueraded");
    assert_eq!(rig.a.connect(WORLD, 25).unwrap_err(), std::io::ErrorKind::ConnectionRefused, "refused at once");
    assert_eq!(rig.a.ask(OTHER_NODE, 443), None);
    assert_eq!(rig.a.ask(PRIVATE, 443), None);
    assert_eq!(rig.node.ask(PRIVATE, 443).unwrap(), "world 203.0.113.1", "the node itself is not limited");
    assert!(rig.count("refused_mail") > 0 && rig.count("refused_closed") > 0);
}

#[test]
fn a_guest_cannot_take_another_address_or_card() {
    if !is_possible() {
        return;
    }
    let rig = rig();
    rig.outside.serve(WORLD, 443, "world");
    rig.a.ask(WORLD, 443).unwrap();
    let own = MacAddr::of_private_ipv4(GUEST_A);
    rig.a.sh("ip link set eth0 address 52:54:00:40:00:99");
    assert_eq!(rig.a.ask(WORLD, 443), None, "a spoofed MAC address is dropped");
    rig.a.sh(&format!("ip link set eth0 address {own}; ip route replace default via {GATEWAY}"));
    rig.a.ask(WORLD, 443).unwrap();
    rig.a.sh(&format!("ip route replace default via {GATEWAY} src {GUEST_A}; ip addr add 10.64.0.77/24 dev eth0"));
    rig.a.sh(&format!("ip route replace {WORLD}/32 via {GATEWAY} src 10.64.0.77"));
    assert_eq!(rig.a.ask(WORLD, 443), None, "a spoofed IPv4 address is dropped");
    // Another guest's address, with that guest unplugged, so that nobody else answers for it.
    rig.node.sh(&format!("ip link set {} down; ip neigh flush dev nemordp0", tap_name(GUEST_B)));
    rig.a.sh(&format!("ip addr add {GUEST_B}/24 dev eth0"));
    rig.a.serve(GUEST_B, 3389, "stolen");
    assert_eq!(rig.outside.ask(PUBLIC, 40003), None, "ARP for another's address is dropped");
    assert_eq!(rig.outside.ask(PUBLIC, 40002).unwrap(), "a 203.0.113.9");
}

#[test]
fn a_guest_has_no_ipv6() {
    if !is_possible() {
        return;
    }
    let rig = rig();
    let address = rig.node.run(|| {
        let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        text.lines().find(|line| line.ends_with("nemordp0")).map(|line| line[..32].to_owned())
    });
    let Some(address) = address else {
        println!("skipped: this kernel has no IPv6");
        return;
    };
    let address: std::net::Ipv6Addr = u128::from_str_radix(&address, 16).unwrap().into();
    rig.node.serve(std::net::Ipv6Addr::UNSPECIFIED, 4053, "six");
    let refused = rig.a.run(move || {
        let scope = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let index = scope.lines().find(|line| line.ends_with("eth0")).map(|line| line[33..35].to_owned());
        let index = index.and_then(|text| u32::from_str_radix(&text, 16).ok()).unwrap_or(2);
        let address = std::net::SocketAddrV6::new(address, 4053, 0, index);
        TcpStream::connect_timeout(&address.into(), SHORT).is_err()
    });
    assert!(refused);
}

#[test]
fn one_source_cannot_open_connections_without_end() {
    if !is_possible() {
        return;
    }
    let rig = rig_with(true, ConnectionLimit { per_minute: 6, burst: 5 });
    let opened = (0..12).filter(|_| rig.outside.ask(PUBLIC, 40002).is_some()).count();
    assert!((4..=8).contains(&opened), "{opened} of 12 connections");
    assert!(rig.count("limited_in") > 0);
    rig.outside.sh(&format!("ip route replace {PUBLIC}/32 dev eth0 src 203.0.113.10"));
    assert!(rig.outside.ask(PUBLIC, 40002).is_some(), "another source is not concerned");
}

#[test]
fn the_rules_are_ones_that_nft_accepts() {
    if !is_possible() {
        return;
    }
    let text = ruleset::render(
        &settings(ConnectionLimit { per_minute: 1, burst: 1 }),
        &[binding(GUEST_A)],
        &ruleset::Counts::new(),
    );
    let space = Space::new();
    space.run(move || {
        for bindings in [text.as_str(), ""] {
            let mut child =
                Command::new("/usr/sbin/nft").args(["-c", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(bindings.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        }
    });
}
