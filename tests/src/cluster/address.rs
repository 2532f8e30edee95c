//! A block of loopback addresses for each cluster, so that any number of them run beside each other on fixed ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::{Result, io};

/// Who holds this port of a block's first address holds the block.
const LOCK_PORT: u16 = 7_999;
/// Blocks that are tried.
const TRIES: u32 = 4_096;

/// 254 addresses of 127.0.0.0/8, held as long as this lives.
#[derive(Debug)]
pub(super) struct Block {
    first: u32,
    _lock: TcpListener,
}

impl Block {
    /// The first block that nobody holds, beginning at a place that this process chooses by its id.
    pub(super) fn claim() -> Result<Self> {
        let start = std::process::id().wrapping_mul(37);
        let mut last = std::io::Error::other("no block was tried");
        for step in 0..TRIES {
            // 127.16.0.0 and above: the addresses that people use by hand are left alone.
            let block = (start.wrapping_add(step)) % 0xe000 + 0x1000;
            let first = u32::from(Ipv4Addr::new(127, 0, 0, 0)) | (block << 8);
            match TcpListener::bind((Ipv4Addr::from(first + 1), LOCK_PORT)) {
                Ok(lock) => return Ok(Self { first, _lock: lock }),
                Err(error) => last = error,
            }
        }
        Err(io("a block of loopback addresses")(last))
    }

    fn at(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from(self.first + u32::from(host)), port))
    }

    /// A control plane's API.
    pub(super) fn http(&self, replica: u8) -> SocketAddr {
        self.at(10 + replica, 8_080)
    }

    /// Where a control plane serves agents.
    pub(super) fn grpc(&self, replica: u8) -> SocketAddr {
        self.at(10 + replica, 7_443)
    }

    /// A control plane's metrics.
    pub(super) fn metrics(&self, replica: u8) -> SocketAddr {
        self.at(10 + replica, 9_464)
    }

    /// Where an agent serves.
    pub(super) fn agent(&self, node: u8) -> SocketAddr {
        self.at(100 + node, 7_444)
    }

    /// Where the control plane believes the agent to be.
    pub(super) fn downlink(&self, node: u8) -> SocketAddr {
        self.at(100 + node, 7_445)
    }

    /// Where the agent believes the control plane to be.
    pub(super) fn uplink(&self, node: u8) -> SocketAddr {
        self.at(100 + node, 7_446)
    }
}
