//! Usage on the wire.

use nemordp_types::Failure;
use nemordp_types::usage::{UsageEntry, UsageReceipt};

use crate::{id, time, v1};

impl From<&UsageEntry> for v1::UsageEntry {
    fn from(entry: &UsageEntry) -> Self {
        Self {
            instance_id: id::encode(&entry.instance_id),
            meter_id: id::encode(&entry.meter_id),
            sequence: entry.sequence,
            from_us: time::encode(entry.from),
            until_us: time::encode(entry.until),
            received_bytes: entry.received_bytes,
            sent_bytes: entry.sent_bytes,
            running_ms: entry.running_ms,
        }
    }
}

impl TryFrom<v1::UsageEntry> for UsageEntry {
    type Error = Failure;

    fn try_from(message: v1::UsageEntry) -> Result<Self, Failure> {
        let (from, until) = (time::decode(message.from_us, "from_us")?, time::decode(message.until_us, "until_us")?);
        if until < from {
            return Err(Failure::field("until_us", "a stretch does not end before it begins"));
        }
        if message.sequence == 0 {
            return Err(Failure::field("sequence", "the first entry has number 1"));
        }
        Ok(Self {
            instance_id: id::decode(&message.instance_id, "instance_id")?,
            meter_id: id::decode(&message.meter_id, "meter_id")?,
            sequence: message.sequence,
            from,
            until,
            received_bytes: message.received_bytes,
            sent_bytes: message.sent_bytes,
            running_ms: message.running_ms,
        })
    }
}

impl From<&UsageReceipt> for v1::UsageReceipt {
    fn from(receipt: &UsageReceipt) -> Self {
        Self {
            instance_id: id::encode(&receipt.instance_id),
            meter_id: id::encode(&receipt.meter_id),
            sequence: receipt.sequence,
        }
    }
}

impl TryFrom<v1::UsageReceipt> for UsageReceipt {
    type Error = Failure;

    fn try_from(message: v1::UsageReceipt) -> Result<Self, Failure> {
        Ok(Self {
            instance_id: id::decode(&message.instance_id, "instance_id")?,
            meter_id: id::decode(&message.meter_id, "meter_id")?,
            sequence: message.sequence,
        })
    }
}
