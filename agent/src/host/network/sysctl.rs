//! Kernel settings that the guests' network needs, in the network namespace in which the agent runs.

use std::path::PathBuf;

use nemordp_types::{Failure, Reason};

/// Lets the node forward IPv4, and on the bridge: no redirects (a guest would learn its neighbours), strict reverse
/// path (a guest cannot send from an address that is not behind the bridge), no answer to ARP for the node's other
/// addresses.
pub async fn prepare(bridge: &str) -> Result<(), Failure> {
    set("ip_forward", "1").await?;
    for (key, value) in [("send_redirects", "0"), ("accept_redirects", "0"), ("rp_filter", "1"), ("arp_ignore", "1")] {
        set(&format!("conf/{bridge}/{key}"), value).await?;
    }
    Ok(())
}

async fn set(key: &str, value: &str) -> Result<(), Failure> {
    let path = PathBuf::from("/proc/sys/net/ipv4").join(key);
    let failed = |error: std::io::Error| {
        Failure::new(Reason::NetworkFailure, "a network setting of the node could not be made; the agent needs root")
            .with_context(format!("{}: {error}", path.display()))
    };
    // What stands already needs no right to write.
    if tokio::fs::read_to_string(&path).await.map_err(failed)?.trim() == value {
        return Ok(());
    }
    tokio::fs::write(&path, value).await.map_err(failed)
}
