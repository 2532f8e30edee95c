//! Kill anything, anywhere: every step of every saga meets every blow, against the real programs, and afterwards the
//! independent check of [`crate::cluster::audit`] finds nothing lost, nothing doubled, nothing left behind.
//!
//! The programs are the ones that are shipped, without any switch for tests in them. A watcher reads the saga's step from
//! the store and strikes there; faults of the simulated hypervisor make the step long enough to be hit. So a blow lands
//! somewhere within its step, as in life; the crash at each single instant is what `control-plane/tests/saga` simulates.

mod blow;
mod campaign;
mod dice;
mod onstage;
mod wish;

pub use blow::Blow;
pub use campaign::{Campaign, Score};
pub use dice::Dice;
pub use wish::Wish;

use nemordp_control_plane::saga::plan;
use nemordp_model::SagaKind;

use crate::cluster::StoreKind;

/// One blow at one step of one saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// What is intended.
    pub kind: SagaKind,
    /// The step that is hit, from 0.
    pub position: usize,
    /// Its name.
    pub step: &'static str,
    /// How.
    pub blow: Blow,
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{} {}", self.kind, self.position, self.step, self.blow)
    }
}

/// Every blow at every step of every saga that the product has: a new saga is in here by itself.
#[must_use]
pub fn trials(store: StoreKind) -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in SagaKind::ALL.iter().copied().filter(|kind| is_offered(*kind)) {
        for (position, step) in plan::steps(kind).iter().enumerate() {
            for blow in Blow::ALL.iter().copied() {
                let trial = Trial { kind, position, step: step.name(), blow };
                if blow.applies(&trial, store) {
                    trials.push(trial);
                }
            }
        }
    }
    trials
}

/// Whether the API has a way to ask for it.
fn is_offered(kind: SagaKind) -> bool {
    let Some(wish) = Wish::of(kind) else { return false };
    let path = wish.path.split('?').next().unwrap_or_default();
    let document = serde_json::to_value(nemordp_control_plane::http::document()).unwrap_or_default();
    let method = wish.method.as_str().to_lowercase();
    let asked = |path: &str| document.get("paths").and_then(|paths| paths.get(path)?.get(&method)).is_some();
    if kind == SagaKind::Provision {
        asked("/v1/orders")
    } else {
        asked(&format!("/v1/instances/{{instance_id}}{path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_saga_that_is_offered_meets_blows_at_each_of_its_steps() {
        let trials = trials(StoreKind::Sqlite);
        for kind in SagaKind::ALL.iter().copied().filter(|kind| is_offered(*kind)) {
            for position in 0..plan::steps(kind).len() {
                let blows = trials.iter().filter(|t| t.kind == kind && t.position == position).count();
                assert!(blows >= 5, "{kind} {position}: {blows} blows");
            }
        }
        for kind in SagaKind::ALL.iter().copied().filter(|kind| !plan::steps(*kind).is_empty()) {
            assert!(Wish::of(kind).is_some(), "say in wish.rs how {kind} is asked for");
        }
    }
}
