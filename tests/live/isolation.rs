//! What a guest can reach, tried from inside one through its own agent.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nemordp_tests::lab::{Host, poll};
use nemordp_tests::trial::Delivered;
use serde_json::{Value, json};

use crate::Installation;

/// The guest agent's answer to one command.
fn agent_command(host: &Host, domain: &str, command: &Value) -> Value {
    let text = command.to_string();
    let finished = host.exec(&["virsh", "--quiet", "qemu-agent-command", "--timeout", "20", domain, &text]).unwrap();
    serde_json::from_str::<Value>(&finished.success().unwrap().text()).unwrap()["return"].clone()
}

/// Whether the guest agent answers by now.
pub(crate) fn agent_answers(host: &Host, domain: &str) -> bool {
    let ping = json!({"execute": "guest-ping"}).to_string();
    let words = ["virsh", "--quiet", "qemu-agent-command", "--timeout", "5", domain, &ping];
    host.exec(&words).is_ok_and(|finished| finished.success().is_ok())
}

/// Runs a shell line in the guest; its exit code and what it printed.
pub(crate) fn in_guest(host: &Host, domain: &str, line: &str) -> (i64, String) {
    let start = json!({"execute": "guest-exec", "arguments": {"path": "/bin/bash", "arg": ["-c", line], "capture-output": true}});
    let pid = agent_command(host, domain, &start)["pid"].clone();
    let status = json!({"execute": "guest-exec-status", "arguments": {"pid": pid}});
    let ended = poll(Duration::from_secs(60), || {
        let answer = agent_command(host, domain, &status);
        Ok((answer["exited"] == json!(true)).then_some(answer))
    });
    let ended = ended.unwrap().unwrap_or_else(|| panic!("{line} did not end"));
    let printed = ended["out-data"].as_str().map(|data| STANDARD.decode(data).unwrap()).unwrap_or_default();
    (ended["exitcode"].as_i64().unwrap_or(-1), String::from_utf8_lossy(&printed).into_owned())
}

/// Name of an instance's domain.
pub(crate) fn domain(instance: &str) -> String {
    format!("nemordp-{instance}")
}

/// Neither the node's own services nor the control plane can be reached, names can be asked for, mail cannot be sent.
pub(crate) fn holds_from_inside_the_guest(installation: &Installation, desktop: &Delivered) {
    let host = installation.host();
    let domain = domain(&desktop.instance);
    let node = host.address().unwrap();
    let [agent, grpc] = [installation.ports()[3], installation.ports()[1]];
    let machine = std::net::Ipv4Addr::from(u32::from(node) & 0xffff_ff00 | 1);
    let reach = |address: &str, port: u16| {
        let line = format!("timeout 4 bash -c 'exec 3<>/dev/tcp/{address}/{port}'");
        in_guest(&host, &domain, &line).0
    };
    // The positive control: the guest's own RDP server, so that a refusal below means a rule and not a broken probe.
    assert_eq!(reach("127.0.0.1", 3389), 0, "the probe itself works");
    assert_ne!(reach("10.64.1.1", agent), 0, "the node's bridge address serves no agent to guests");
    assert_ne!(reach(&node.to_string(), agent), 0, "the agent cannot be reached from a guest");
    assert_ne!(reach(&machine.to_string(), grpc), 0, "the control plane cannot be reached from a guest");
    assert_ne!(reach("10.64.1.1", 22), 0, "no service of the node can be reached");
    assert_ne!(reach("10.64.1.9", 3389), 0, "no other guest can be reached");
    let ruleset = host.exec(&["nft", "list", "ruleset"]).unwrap().success().unwrap().text();
    assert!(ruleset.contains("table inet nemordp"), "{ruleset}");
    assert!(ruleset.contains("dport 25"), "outgoing mail is closed:\n{ruleset}");
}
