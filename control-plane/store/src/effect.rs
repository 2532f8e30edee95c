//! What changes together with a saga's step, in the same transaction.

mod sheet;

use nemordp_model::{EventKind, Lifecycle, OrderChange};
use nemordp_types::{InstanceId, OrderId};
use serde_json::json;

use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::instance;
use crate::page::TenantScope;
use crate::reservation;
use crate::secret;
use crate::transaction::Tx;

use sheet::Sheet;

/// A change that a step brings about. Each is safe to repeat.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// An order moves on.
    Order {
        /// Which.
        order_id: OrderId,
        /// How.
        change: OrderChange,
    },
    /// An instance is handed over.
    InstanceActive {
        /// Which.
        instance_id: InstanceId,
    },
    /// An instance was never handed over; what it held is given back.
    InstanceFailed {
        /// Which.
        instance_id: InstanceId,
    },
    /// An instance is gone; what it held is given back.
    InstanceDeleted {
        /// Which.
        instance_id: InstanceId,
    },
    /// The proof pins the RDP server's certificate.
    PinCertificate {
        /// Of which instance.
        instance_id: InstanceId,
        /// SHA-256 of the certificate (DER).
        sha256: [u8; 32],
    },
    /// The guest shows no certificate that could be pinned.
    UnpinCertificate {
        /// Of which instance.
        instance_id: InstanceId,
    },
    /// A change is final: what was kept for taking it back may go.
    Settle {
        /// Of which instance.
        instance_id: InstanceId,
    },
    /// Its node is fenced and could not be told what is wanted: it is brought in line when it is back.
    Misalign {
        /// Which instance.
        instance_id: InstanceId,
    },
    /// Capacity, port and private address are given back.
    Release {
        /// Whose.
        instance_id: InstanceId,
    },
    /// A new password is kept, sealed.
    SealSecret {
        /// Of which instance.
        instance_id: InstanceId,
        /// The sealed password.
        sealed: Vec<u8>,
    },
    /// The password is forgotten.
    EraseSecret {
        /// Of which instance.
        instance_id: InstanceId,
    },
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Order { order_id, change } => write!(f, "Order({order_id}, {change:?})"),
            Self::InstanceActive { instance_id } => write!(f, "InstanceActive({instance_id})"),
            Self::InstanceFailed { instance_id } => write!(f, "InstanceFailed({instance_id})"),
            Self::InstanceDeleted { instance_id } => write!(f, "InstanceDeleted({instance_id})"),
            Self::PinCertificate { instance_id, .. } => write!(f, "PinCertificate({instance_id})"),
            Self::UnpinCertificate { instance_id } => write!(f, "UnpinCertificate({instance_id})"),
            Self::Settle { instance_id } => write!(f, "Settle({instance_id})"),
            Self::Misalign { instance_id } => write!(f, "Misalign({instance_id})"),
            Self::Release { instance_id } => write!(f, "Release({instance_id})"),
            Self::SealSecret { instance_id, .. } => write!(f, "SealSecret({instance_id})"),
            Self::EraseSecret { instance_id } => write!(f, "EraseSecret({instance_id})"),
        }
    }
}

/// Moves an instance on, with its event; one that is there already is left alone.
pub(crate) async fn lifecycle(tx: &mut Tx, id: InstanceId, next: Lifecycle, kind: EventKind) -> Result<()> {
    let mut found = instance::fetch_locked(tx, TenantScope::All, id).await?;
    if found.lifecycle == next {
        return Ok(());
    }
    found.lifecycle = found.lifecycle.to(next)?;
    found.updated_at = tx.now;
    instance::update_in_tx(tx, &found).await?;
    tx.event(kind, Subject::from(&found), json!({})).await
}

pub(crate) async fn release_in_tx(tx: &mut Tx, id: InstanceId) -> Result<()> {
    if reservation::release_in_tx(tx, id).await? {
        let found = instance::fetch(tx, TenantScope::All, id).await?;
        tx.event(EventKind::InstanceReleased, Subject::from(&found), json!({})).await?;
    }
    Ok(())
}

/// Applies one effect.
pub(crate) async fn apply_in_tx(tx: &mut Tx, effect: &Effect) -> Result<()> {
    apply_all_in_tx(tx, &[effect]).await
}

/// Applies effects in their order; neighbours that can share their reads and writes do.
pub(crate) async fn apply_all_in_tx(tx: &mut Tx, effects: &[&Effect]) -> Result<()> {
    for run in effects.chunk_by(|one, next| sheet::shares(one) && sheet::shares(next)) {
        match run {
            [alone] if !sheet::shares(alone) => apply_alone(tx, alone).await?,
            run => {
                let mut sheet = Sheet::read(tx, run).await?;
                for effect in run {
                    sheet.note(effect, tx.now)?;
                }
                sheet.write(tx).await?;
            }
        }
    }
    Ok(())
}

async fn apply_alone(tx: &mut Tx, effect: &Effect) -> Result<()> {
    match effect {
        Effect::InstanceFailed { instance_id } => {
            lifecycle(tx, *instance_id, Lifecycle::Failed, EventKind::InstanceFailed).await?;
            secret::erase_in_tx(tx, *instance_id).await?;
            release_in_tx(tx, *instance_id).await
        }
        Effect::InstanceDeleted { instance_id } => {
            lifecycle(tx, *instance_id, Lifecycle::Deleted, EventKind::InstanceDeleted).await?;
            secret::erase_in_tx(tx, *instance_id).await?;
            release_in_tx(tx, *instance_id).await
        }
        Effect::Settle { instance_id } => {
            let mut found = instance::fetch_locked(tx, TenantScope::All, *instance_id).await?;
            let now = tx.now;
            if !found.settle(now) {
                return Ok(());
            }
            instance::update_in_tx(tx, &found).await?;
            tx.event(EventKind::InstanceChanged, Subject::from(&found), json!({ "disk": "settled" })).await
        }
        Effect::Release { instance_id } => release_in_tx(tx, *instance_id).await,
        Effect::EraseSecret { instance_id } => secret::erase_in_tx(tx, *instance_id).await,
        Effect::Order { .. }
        | Effect::InstanceActive { .. }
        | Effect::PinCertificate { .. }
        | Effect::UnpinCertificate { .. }
        | Effect::Misalign { .. }
        | Effect::SealSecret { .. } => {
            Err(StoreError::Driver("an effect that shares a sheet was to be applied alone".to_owned()))
        }
    }
}
