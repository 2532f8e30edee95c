//! What can happen to a step.

use super::Trial;
use crate::cluster::StoreKind;

/// What happens while a step is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blow {
    /// The hypervisor fails it twice, for a while.
    Fails,
    /// The hypervisor does it and says that it failed: it is done twice.
    RunsTwice,
    /// It fails for good, and the control plane is killed twice while everything is undone.
    UndoneTwice,
    /// The control plane is killed when the intent is written.
    ControlBefore,
    /// The control plane is killed when the node has heard of it and the answer is lost.
    ControlAfter,
    /// The agent is killed when the intent is written.
    AgentBefore,
    /// The agent is killed when the step is done.
    AgentAfter,
    /// The network is cut for longer than the lease: refused, silent, or answers lost.
    Network,
    /// Control plane and agent are killed together.
    Both,
    /// PostgreSQL is brought down and comes back.
    Store,
}

impl Blow {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Fails,
        Self::RunsTwice,
        Self::UndoneTwice,
        Self::ControlBefore,
        Self::ControlAfter,
        Self::AgentBefore,
        Self::AgentAfter,
        Self::Network,
        Self::Both,
        Self::Store,
    ];

    /// Whether it can happen to this step.
    #[must_use]
    pub fn applies(self, trial: &Trial, store: StoreKind) -> bool {
        match self {
            // Only what a hypervisor does can fail there.
            Self::Fails | Self::RunsTwice => !calls(trial.step).is_empty(),
            // What takes away is not undone: it goes on until it is done; nor is a step that makes a change final.
            Self::UndoneTwice => {
                let patient = ["delete", "delete_later", "suspend"].contains(&trial.kind.word());
                !calls(trial.step).is_empty() && !patient && trial.step != "settle"
            }
            Self::Store => store == StoreKind::Postgres,
            Self::ControlBefore
            | Self::ControlAfter
            | Self::AgentBefore
            | Self::AgentAfter
            | Self::Network
            | Self::Both => true,
        }
    }
}

impl std::fmt::Display for Blow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fails => "fails",
            Self::RunsTwice => "runs twice",
            Self::UndoneTwice => "is undone twice",
            Self::ControlBefore => "control plane killed before",
            Self::ControlAfter => "control plane killed after",
            Self::AgentBefore => "agent killed before",
            Self::AgentAfter => "agent killed after",
            Self::Network => "network cut",
            Self::Both => "both killed",
            Self::Store => "PostgreSQL restarted",
        })
    }
}

/// The hypervisor's calls that a step makes; for a step that is not known here, all that change anything.
pub(super) fn calls(step: &str) -> &'static [&'static str] {
    match step {
        "ensure_instance" => &["disk_clone", "domain_define", "network_add", "domain_start", "guest_personalise"],
        "end_sessions" => &["guest_end_sessions"],
        "set_password" => &["guest_set_password"],
        "delete_instance" => &["domain_destroy", "network_remove", "domain_undefine", "disk_delete"],
        "power" => &["domain_start", "domain_shutdown", "domain_destroy"],
        // They touch no hypervisor, or only read.
        "prove_login" | "end_proof_session" | "activate" | "forget" | "read_certificate" => &[],
        "reconfigure" => &[
            "domain_define",
            "disk_clone",
            "domain_start",
            "domain_shutdown",
            "domain_destroy",
            "network_add",
            "network_remove",
            "guest_personalise",
        ],
        _ => &[
            "disk_clone",
            "disk_delete",
            "domain_define",
            "domain_undefine",
            "domain_start",
            "domain_shutdown",
            "domain_destroy",
            "network_add",
            "network_remove",
            "guest_personalise",
        ],
    }
}
