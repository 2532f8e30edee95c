//! How the vocabulary is written into columns and read back; what cannot be read is a typed inconsistency.

use std::str::FromStr;

use jiff::Timestamp;
use nemordp_model::{
    Affinity, ApiScopes, EventKind, Freeze, Label, Lifecycle, OrderState, SagaKind, SagaStatus, StepState,
    SuspensionState,
};
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{
    ApiKeyId, Bytes, EventId, Fence, Generation, GiB, GpuModel, HostName, InstallationId, InstanceId, KeyboardLayout,
    MeterId, MiB, NodeAddress, NodeId, OperationId, OrderId, PlanName, RegionName, ReservationId, SagaId, StorageClass,
    TemplateDigest, TemplateName, TenantId, TicketId, TimeZoneName, Vcpu,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, StoreError};
use crate::sql::{Row, Value};

/// A type that a column holds.
pub(crate) trait Column: Sized {
    fn read(row: &Row, column: &str) -> Result<Self>;
}

impl Row {
    pub(crate) fn get<T: Column>(&self, column: &str) -> Result<T> {
        T::read(self, column)
    }

    /// A structure that is kept as JSON text.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|e| self.wrong(column, &e))
    }

    /// The same, where the column may be NULL.
    pub(crate) fn json_opt<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        if self.is_null(column)? { Ok(None) } else { self.json(column).map(Some) }
    }
}

impl<T: Column> Column for Option<T> {
    fn read(row: &Row, column: &str) -> Result<Self> {
        if row.is_null(column)? { Ok(None) } else { T::read(row, column).map(Some) }
    }
}

impl Column for Vec<u8> {
    fn read(row: &Row, column: &str) -> Result<Self> {
        row.blob(column)
    }
}

impl Column for [u8; 32] {
    fn read(row: &Row, column: &str) -> Result<Self> {
        row.blob(column)?.try_into().map_err(|_| row.wrong(column, &"not 32 bytes"))
    }
}

impl Column for String {
    fn read(row: &Row, column: &str) -> Result<Self> {
        row.text(column)
    }
}

impl Column for bool {
    fn read(row: &Row, column: &str) -> Result<Self> {
        Ok(row.int(column)? != 0)
    }
}

impl Column for Timestamp {
    fn read(row: &Row, column: &str) -> Result<Self> {
        Self::from_microsecond(row.int(column)?).map_err(|e| row.wrong(column, &e))
    }
}

/// The last and the first second have no readable fraction: what is written must be read back.
fn microseconds(at: Timestamp) -> i64 {
    let whole = |at: Timestamp| at.as_second() * 1_000_000;
    at.as_microsecond().clamp(whole(Timestamp::MIN), whole(Timestamp::MAX))
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Int(Some(microseconds(at)))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(at: Option<Timestamp>) -> Self {
        Self::Int(at.map(microseconds))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Int(Some(i64::from(flag)))
    }
}

macro_rules! integers {
    ($($inner:ty),*) => {$(
        impl Column for $inner {
            fn read(row: &Row, column: &str) -> Result<Self> {
                Self::try_from(row.int(column)?).map_err(|e| row.wrong(column, &e))
            }
        }

        impl From<$inner> for Value {
            // What no column can hold is beyond every bound anyway.
            fn from(number: $inner) -> Self {
                Self::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
            }
        }

        impl From<Option<$inner>> for Value {
            fn from(number: Option<$inner>) -> Self {
                Self::Int(number.map(|n| i64::try_from(n).unwrap_or(i64::MAX)))
            }
        }
    )*};
}
integers!(i64, u64, u32, u16, u8);

macro_rules! amounts {
    ($($name:ident),*) => {$(
        impl Column for $name {
            fn read(row: &Row, column: &str) -> Result<Self> {
                row.get(column).map(Self)
            }
        }

        impl From<$name> for Value {
            fn from(amount: $name) -> Self {
                Self::from(amount.0)
            }
        }
    )*};
}
amounts!(Vcpu, MiB, GiB, Bytes, Generation, Fence);

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl Column for $name {
            fn read(row: &Row, column: &str) -> Result<Self> {
                uuid::Uuid::from_slice(&row.blob(column)?).map(Self::from_uuid).map_err(|e| row.wrong(column, &e))
            }
        }

        impl From<$name> for Value {
            fn from(id: $name) -> Self {
                Self::Blob(Some(id.as_uuid().into_bytes().to_vec()))
            }
        }

        impl From<Option<$name>> for Value {
            fn from(id: Option<$name>) -> Self {
                Self::Blob(id.map(|id| id.as_uuid().into_bytes().to_vec()))
            }
        }
    )*};
}
ids!(
    InstallationId,
    NodeId,
    InstanceId,
    MeterId,
    OperationId,
    OrderId,
    SagaId,
    ReservationId,
    TenantId,
    ApiKeyId,
    TicketId,
    EventId
);

macro_rules! texts {
    ($($name:ident),*) => {$(
        impl Column for $name {
            fn read(row: &Row, column: &str) -> Result<Self> {
                Self::from_str(&row.text(column)?).map_err(|e| row.wrong(column, &e))
            }
        }

        impl From<&$name> for Value {
            fn from(name: &$name) -> Self {
                Self::Text(Some(name.to_string()))
            }
        }

        impl From<Option<&$name>> for Value {
            fn from(name: Option<&$name>) -> Self {
                Self::Text(name.map(ToString::to_string))
            }
        }
    )*};
}
texts!(
    PlanName,
    RegionName,
    StorageClass,
    GpuModel,
    TemplateName,
    HostName,
    TimeZoneName,
    KeyboardLayout,
    Label,
    ApiScopes
);

macro_rules! closed_lists {
    ($($name:ident),*) => {$(
        impl Column for $name {
            fn read(row: &Row, column: &str) -> Result<Self> {
                let word = row.text(column)?;
                Self::from_word(&word).ok_or_else(|| row.wrong(column, &format!("unknown word {word}")))
            }
        }

        impl From<$name> for Value {
            fn from(member: $name) -> Self {
                Self::Text(Some(member.word().to_owned()))
            }
        }

        impl From<Option<$name>> for Value {
            fn from(member: Option<$name>) -> Self {
                Self::Text(member.map(|m| m.word().to_owned()))
            }
        }
    )*};
}
closed_lists!(Affinity, OrderState, Lifecycle, Freeze, SagaKind, SagaStatus, StepState, SuspensionState, EventKind);

macro_rules! serde_words {
    ($($name:ident),*) => {$(
        impl Column for $name {
            fn read(row: &Row, column: &str) -> Result<Self> {
                serde_json::from_value(serde_json::Value::String(row.text(column)?)).map_err(|e| row.wrong(column, &e))
            }
        }

        impl From<$name> for Value {
            fn from(member: $name) -> Self {
                let word = serde_json::to_value(member).ok().and_then(|v| v.as_str().map(str::to_owned));
                Self::Text(word)
            }
        }
    )*};
}
serde_words!(NodePolicy, NodeAvailability);

impl Column for NodeAddress {
    fn read(row: &Row, column: &str) -> Result<Self> {
        row.text(column)?.parse().map(Self).map_err(|e| row.wrong(column, &e))
    }
}

impl From<NodeAddress> for Value {
    fn from(address: NodeAddress) -> Self {
        Self::Text(Some(address.to_string()))
    }
}

impl Column for TemplateDigest {
    fn read(row: &Row, column: &str) -> Result<Self> {
        row.get(column).map(Self::from_bytes)
    }
}

impl From<TemplateDigest> for Value {
    fn from(digest: TemplateDigest) -> Self {
        Self::Blob(Some(digest.as_bytes().to_vec()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Blob(Some(bytes.to_vec()))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Blob(bytes)
    }
}

impl From<&[u8; 32]> for Value {
    fn from(bytes: &[u8; 32]) -> Self {
        Self::Blob(Some(bytes.to_vec()))
    }
}

/// JSON text of a structure.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Driver(format!("a value has no JSON form: {e}")))
}

/// The same for an optional one.
pub(crate) fn json_opt<T: Serialize>(value: Option<&T>) -> Result<Option<String>> {
    value.map(json).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_that_is_written_can_be_read_back() {
        for at in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert!(Timestamp::from_microsecond(microseconds(at)).is_ok(), "{at}");
        }
    }
}
