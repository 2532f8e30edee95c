//! The agent of one node: brings instances to what the control plane wants, through the host beneath.
//!
//! Map: [`config`] what the operator decides · [`host`] every side effect · `instance` one task owns one instance ·
//! `journal` what the hypervisor cannot remember · `template` golden disks on this node · `rpc` what the control plane
//! calls · `uplink` what the agent asks of the control plane · `metrics` what Prometheus reads.

pub mod config;
pub mod host;
