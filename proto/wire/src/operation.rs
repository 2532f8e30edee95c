//! Agent operations on the wire.

use nemordp_types::operation::{Operation, OperationKind, OperationState, Stage};
use nemordp_types::{Failure, Reason};

use crate::{fencing, time, v1};

impl From<OperationKind> for v1::OperationKind {
    fn from(kind: OperationKind) -> Self {
        match kind {
            OperationKind::EnsureInstance => Self::EnsureInstance,
            OperationKind::PowerInstance => Self::PowerInstance,
            OperationKind::DeleteInstance => Self::DeleteInstance,
            OperationKind::SetPassword => Self::SetPassword,
            OperationKind::EndSessions => Self::EndSessions,
        }
    }
}

impl TryFrom<v1::OperationKind> for OperationKind {
    type Error = Failure;

    fn try_from(message: v1::OperationKind) -> Result<Self, Failure> {
        match message {
            v1::OperationKind::EnsureInstance => Ok(Self::EnsureInstance),
            v1::OperationKind::PowerInstance => Ok(Self::PowerInstance),
            v1::OperationKind::DeleteInstance => Ok(Self::DeleteInstance),
            v1::OperationKind::SetPassword => Ok(Self::SetPassword),
            v1::OperationKind::EndSessions => Ok(Self::EndSessions),
            v1::OperationKind::Unspecified => {
                Err(Failure::field("kind", "the operation's kind is missing or not known here"))
            }
        }
    }
}

macro_rules! stages {
    ($($stage:ident),*) => {
        impl From<Stage> for v1::Stage {
            fn from(stage: Stage) -> Self {
                match stage { $(Stage::$stage => Self::$stage,)* }
            }
        }

        impl TryFrom<v1::Stage> for Stage {
            type Error = Failure;

            fn try_from(message: v1::Stage) -> Result<Self, Failure> {
                match message {
                    $(v1::Stage::$stage => Ok(Self::$stage),)*
                    v1::Stage::Unspecified => Err(Failure::field("stage", "the operation's stage is missing or not known here")),
                }
            }
        }
    };
}

stages!(
    Queued,
    Template,
    Disk,
    Define,
    Network,
    Start,
    GuestAgent,
    Address,
    Personalise,
    RdpAnswer,
    Password,
    Sessions,
    Power,
    Remove,
    Finished
);

impl From<&Operation> for v1::Operation {
    fn from(operation: &Operation) -> Self {
        let (state, failure) = match &operation.state {
            OperationState::Running => (v1::OperationState::Running, None),
            OperationState::Succeeded => (v1::OperationState::Succeeded, None),
            OperationState::Failed(failure) => (v1::OperationState::Failed, Some(failure.into())),
        };
        Self {
            mutation: Some((&operation.mutation).into()),
            kind: v1::OperationKind::from(operation.kind).into(),
            stage: v1::Stage::from(operation.stage).into(),
            percent: operation.percent.map_or(-1, i32::from),
            state: state.into(),
            failure,
            accepted_at_us: time::encode(operation.accepted_at),
            finished_at_us: time::encode_option(operation.finished_at),
        }
    }
}

impl TryFrom<v1::Operation> for Operation {
    type Error = Failure;

    fn try_from(message: v1::Operation) -> Result<Self, Failure> {
        let (kind, stage) = (message.kind().try_into()?, message.stage().try_into()?);
        let state = match message.state() {
            v1::OperationState::Running => OperationState::Running,
            v1::OperationState::Succeeded => OperationState::Succeeded,
            v1::OperationState::Failed => OperationState::Failed(
                message.failure.map_or_else(|| Failure::new(Reason::Internal, "the node gave no cause"), Failure::from),
            ),
            v1::OperationState::Unspecified => return Err(Failure::field("state", "the operation's state is missing")),
        };
        Ok(Self {
            mutation: fencing::required(message.mutation)?,
            kind,
            stage,
            percent: u8::try_from(message.percent).ok().filter(|percent| *percent <= 100),
            state,
            accepted_at: time::decode(message.accepted_at_us, "accepted_at_us")?,
            finished_at: time::decode_option(message.finished_at_us, "finished_at_us")?,
        })
    }
}
