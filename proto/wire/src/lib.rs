//! The contract between control plane and agent: generated code, conversions to and from the vocabulary, mTLS.
//!
//! Conversions stand in one file a noun. `From<&T>` writes a message and cannot fail; `TryFrom` reads one, and its error
//! names the field: only the receiver validates.
//!
//! Map: [`v1`] generated · [`id`], [`time`] scalars · [`failure`], [`fencing`], [`guest`], [`instance`], [`node`],
//! [`operation`], [`suspension`], [`template`], [`usage`] nouns · [`status`] the one table of gRPC codes · [`identity`] who a certificate speaks for ·
//! [`mtls`] connections · [`ticket`] what an operator hands to a new node.

pub mod failure;
pub mod fencing;
pub mod guest;
pub mod id;
pub mod identity;
pub mod instance;
pub mod mtls;
pub mod node;
pub mod operation;
pub mod status;
pub mod suspension;
pub mod template;
pub mod ticket;
pub mod time;
pub mod usage;

/// The generated messages and services.
pub mod v1 {
    #![expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated from the schema"
    )]
    tonic::include_proto!("nemordp.v1");

    /// The schema as a descriptor set, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nemordp_v1.bin"));
}
