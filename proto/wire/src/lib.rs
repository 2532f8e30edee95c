//! The contract between control plane and agent: generated code, conversions to and from the vocabulary, mTLS.

/// The generated messages and services.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::all,
        clippy::too_many_lines,
        reason = "generated from the schema, which has the documentation"
    )]
    tonic::include_proto!("nemordp.v1");

    /// The schema as a descriptor set, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nemordp_v1.bin"));
}
