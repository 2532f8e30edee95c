//! The configuration files of one replica and one node.

use std::net::SocketAddr;
use std::path::Path;

use super::Shape;

/// Where traces go, if they go anywhere.
fn telemetry(shape: &Shape) -> String {
    shape.collector.map(|address| format!("\n[telemetry]\notlp_endpoint = \"http://{address}\"\n")).unwrap_or_default()
}

/// What a control plane reads.
pub(super) fn replica(
    shape: &Shape,
    data: &Path,
    store: &str,
    http: SocketAddr,
    grpc: SocketAddr,
    metrics: SocketAddr,
) -> String {
    let heartbeat = shape.heartbeat_seconds;
    format!(
        r#"data_dir = "{data}"
store = "{store}"
regions = ["lab"]

[http]
listen = "{http}"

[grpc]
listen = "{grpc}"

[metrics]
listen = "{metrics}"

[nodes]
heartbeat_seconds = {heartbeat}
suspect_after_seconds = {suspect}
lost_after_seconds = {lost}

[work]
lease_milliseconds = {lease}
at_once = {at_once}
{telemetry}"#,
        telemetry = telemetry(shape),
        data = data.display(),
        suspect = heartbeat * 20,
        lost = heartbeat * 60,
        lease = shape.lease.as_millis(),
        at_once = shape.at_once,
    )
}

/// What an agent reads. All nodes are alike but for their number.
pub(super) fn node(
    shape: &Shape,
    number: u8,
    dir: &Path,
    uplink: SocketAddr,
    listen: SocketAddr,
    advertise: SocketAddr,
) -> String {
    format!(
        r#"data_dir = "{dir}/agent"
control_plane = "{uplink}"
listen = "{listen}"
advertise = "{advertise}"
node_name = "node-{number}"
ticket_file = "{dir}/ticket"
log_format = "text"
boot_timeout_seconds = 30

[host]
kind = "sim"

[network]
private_subnet = "10.{subnet}.0.0/16"
public_address = "{address}"
first_port = 20000
last_port = 59999

[sim]
vcpu = {vcpu}
memory_mib = {memory}
pools = [{{ storage_class = "nvme", size_gib = {disk} }}]
boot_delay_ms = {boot}
clone_delay_ms = {clone}
rdp = true
{telemetry}"#,
        telemetry = telemetry(shape),
        dir = dir.display(),
        subnet = 100 + number,
        address = listen.ip(),
        vcpu = shape.vcpu,
        memory = u64::from(shape.vcpu) * 2_048,
        disk = u64::from(shape.vcpu) * 25,
        boot = shape.boot.as_millis(),
        clone = shape.clone.as_millis(),
    )
}
