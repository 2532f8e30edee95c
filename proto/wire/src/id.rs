//! Ids as 16 bytes.

use bytes::Bytes;
use nemordp_types::{Failure, InstallationId, InstanceId, MeterId, NodeId, OperationId, OrderId};
use uuid::Uuid;

/// An id that crosses the wire.
pub trait WireId: Sized {
    /// Wraps a UUID.
    fn from_uuid(uuid: Uuid) -> Self;
    /// The UUID.
    fn as_uuid(&self) -> Uuid;
}

macro_rules! wire_ids {
    ($($name:ident),*) => {$(
        impl WireId for $name {
            fn from_uuid(uuid: Uuid) -> Self {
                $name::from_uuid(uuid)
            }

            fn as_uuid(&self) -> Uuid {
                $name::as_uuid(self)
            }
        }
    )*};
}

wire_ids!(InstallationId, InstanceId, MeterId, NodeId, OperationId, OrderId);

/// The bytes of an id.
pub fn encode<T: WireId>(id: &T) -> Bytes {
    Bytes::copy_from_slice(id.as_uuid().as_bytes())
}

/// Reads an id; the error names the field.
pub fn decode<T: WireId>(bytes: &[u8], field: &str) -> Result<T, Failure> {
    let uuid = Uuid::from_slice(bytes).map_err(|_| Failure::field(field, "an id is 16 bytes (a UUID)"))?;
    if uuid.is_nil() {
        return Err(Failure::field(field, "the id is missing"));
    }
    Ok(T::from_uuid(uuid))
}

/// Reads a hash of 32 bytes; the error names the field.
pub fn decode_sha256(bytes: &[u8], field: &str) -> Result<[u8; 32], Failure> {
    bytes.try_into().map_err(|_| Failure::field(field, "a SHA-256 is 32 bytes"))
}
