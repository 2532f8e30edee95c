//! What a saga remembers between its steps. Never a password.

use std::collections::BTreeMap;

use nemordp_trace::TraceParent;
use nemordp_types::{Clock, Entropy, Failure, NodeId, OperationId};
use serde::{Deserialize, Serialize};

/// The typed state; lies in the store as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The change that each step sends to the node, by the step's position: chosen before it is sent.
    #[serde(default)]
    pub changes: BTreeMap<u32, OperationId>,
    /// The same for undoing.
    #[serde(default)]
    pub undos: BTreeMap<u32, OperationId>,
    /// Whether this saga's password is made and sealed.
    #[serde(default)]
    pub password_made: bool,
    /// How often the present step was tried in vain.
    #[serde(default)]
    pub tries: u32,
    /// Nodes that could not do it.
    #[serde(default)]
    pub given_up: Vec<NodeId>,
    /// The node that is being left for another, from the decision on until the saga begins there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// Whether the instance's disk has grown and cannot be taken back; an older version need not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_disk: bool,
    /// Why everything is undone; an undo that fails must not hide it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Failure>,
    /// The trace to which every step belongs, whoever makes it; none unless traces are exported, so that a version that
    /// does not know them reads the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// Leaving a node for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Which one is left.
    pub node: NodeId,
    /// Why.
    pub failure: Failure,
}

impl State {
    /// Reads it.
    ///
    /// # Errors
    /// When a newer version wrote it.
    pub fn from_text(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| Failure::internal(format!("a saga's state cannot be read: {error}")))
    }

    /// As it is stored.
    ///
    /// # Errors
    /// Never for this type; the caller need not know.
    pub fn to_text(&self) -> Result<String, Failure> {
        serde_json::to_string(self).map_err(Failure::internal)
    }

    /// The change of a step, chosen now if it is not yet; whether it was chosen now.
    pub fn change(&mut self, position: u32, clock: &dyn Clock, entropy: &dyn Entropy) -> (OperationId, bool) {
        let known = self.changes.get(&position).copied();
        let id = *self.changes.entry(position).or_insert_with(|| OperationId::new(clock, entropy));
        (id, known.is_none())
    }

    /// The undo of a step, chosen now if it is not yet; whether it was chosen now.
    pub fn undo(&mut self, position: u32, clock: &dyn Clock, entropy: &dyn Entropy) -> (OperationId, bool) {
        let known = self.undos.get(&position).copied();
        let id = *self.undos.entry(position).or_insert_with(|| OperationId::new(clock, entropy));
        (id, known.is_none())
    }

    /// Begins on another node: nothing of the old one counts, except that it could not do it.
    pub fn start_over(&mut self, without: NodeId) {
        self.given_up.push(without);
        self.changes.clear();
        self.undos.clear();
        self.password_made = false;
        self.tries = 0;
        self.leaving = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a version before traces wrote it, and as it reads it.
    const BEFORE: &str = r#"{"changes":{},"undos":{},"password_made":true,"tries":2,"given_up":[]}"#;

    #[test]
    fn a_state_without_a_trace_is_what_older_versions_write_and_read() {
        let state = State::from_text(BEFORE).unwrap();
        assert!(state.trace.is_none());
        assert_eq!(state.to_text().unwrap(), BEFORE);
    }

    #[test]
    fn the_trace_outlives_the_process_and_the_node() {
        let trace: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let mut state = State { trace: Some(trace), ..State::default() };
        let entropy = nemordp_types::SeededEntropy::new(1);
        state.start_over(NodeId::new(&nemordp_types::ManualClock::at_second(1), &entropy));
        assert_eq!(State::from_text(&state.to_text().unwrap()).unwrap().trace, Some(trace));
    }
}
