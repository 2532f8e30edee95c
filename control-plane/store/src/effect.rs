//! What changes together with a saga's step, in the same transaction.

use nemordp_model::{EventKind, Lifecycle, OrderChange};
use nemordp_types::{InstanceId, OrderId};
use serde_json::json;

use crate::error::Result;
use crate::event::Subject;
use crate::instance;
use crate::order;
use crate::page::TenantScope;
use crate::reservation;
use crate::secret;
use crate::transaction::Tx;

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

async fn pin(tx: &mut Tx, id: InstanceId, sha256: Option<[u8; 32]>) -> Result<()> {
    let mut found = instance::fetch_locked(tx, TenantScope::All, id).await?;
    found.rdp_certificate_sha256 = sha256;
    found.updated_at = tx.now;
    instance::update_in_tx(tx, &found).await?;
    let word = if sha256.is_some() { "pinned" } else { "unknown" };
    tx.event(EventKind::InstanceChanged, Subject::from(&found), json!({ "certificate": word })).await
}

async fn misalign(tx: &mut Tx, id: InstanceId) -> Result<()> {
    let mut found = instance::fetch_locked(tx, TenantScope::All, id).await?;
    if found.misaligned_at.is_some() {
        return Ok(());
    }
    (found.misaligned_at, found.updated_at) = (Some(tx.now), tx.now);
    instance::update_in_tx(tx, &found).await?;
    tx.event(EventKind::InstanceChanged, Subject::from(&found), json!({ "node": "misaligned" })).await
}

pub(crate) async fn release_in_tx(tx: &mut Tx, id: InstanceId) -> Result<()> {
    if reservation::release_in_tx(tx, id).await? {
        let found = instance::fetch(tx, TenantScope::All, id).await?;
        tx.event(EventKind::InstanceReleased, Subject::from(&found), json!({})).await?;
    }
    Ok(())
}

pub(crate) async fn apply_in_tx(tx: &mut Tx, effect: &Effect) -> Result<()> {
    match effect {
        Effect::Order { order_id, change } => {
            order::change_in_tx(tx, TenantScope::All, *order_id, change.clone()).await.map(|_| ())
        }
        Effect::InstanceActive { instance_id } => {
            lifecycle(tx, *instance_id, Lifecycle::Active, EventKind::InstanceActive).await
        }
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
        Effect::PinCertificate { instance_id, sha256 } => pin(tx, *instance_id, Some(*sha256)).await,
        Effect::UnpinCertificate { instance_id } => pin(tx, *instance_id, None).await,
        Effect::Settle { instance_id } => {
            let mut found = instance::fetch_locked(tx, TenantScope::All, *instance_id).await?;
            let now = tx.now;
            if !found.settle(now) {
                return Ok(());
            }
            instance::update_in_tx(tx, &found).await?;
            tx.event(EventKind::InstanceChanged, Subject::from(&found), json!({ "disk": "settled" })).await
        }
        Effect::Misalign { instance_id } => misalign(tx, *instance_id).await,
        Effect::Release { instance_id } => release_in_tx(tx, *instance_id).await,
        Effect::SealSecret { instance_id, sealed } => secret::seal_in_tx(tx, *instance_id, sealed).await,
        Effect::EraseSecret { instance_id } => secret::erase_in_tx(tx, *instance_id).await,
    }
}
