//! Scheduled suspensions on the wire.

use nemordp_types::Failure;
use nemordp_types::suspension::SuspensionReport;

use crate::{id, time, v1};

impl From<&SuspensionReport> for v1::SuspensionReport {
    fn from(report: &SuspensionReport) -> Self {
        Self {
            instance_id: id::encode(&report.instance_id),
            operation_id: id::encode(&report.operation_id),
            done_at_us: time::encode(report.done_at),
        }
    }
}

impl TryFrom<v1::SuspensionReport> for SuspensionReport {
    type Error = Failure;

    fn try_from(message: v1::SuspensionReport) -> Result<Self, Failure> {
        Ok(Self {
            instance_id: id::decode(&message.instance_id, "instance_id")?,
            operation_id: id::decode(&message.operation_id, "operation_id")?,
            done_at: time::decode(message.done_at_us, "done_at_us")?,
        })
    }
}
