//! How a saga is asked for over HTTP, and what must be true before.

use nemordp_model::SagaKind;
use reqwest::Method;
use serde_json::{Value, json};

/// A request that begins a saga.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The method.
    pub method: Method,
    /// What follows the instance's path.
    pub path: &'static str,
    /// What is sent.
    pub body: Value,
    /// The saga that must have ended on the instance before, if any.
    pub after: Option<&'static str>,
    /// Whether the instance is afterwards as it was, so that other wishes can follow.
    pub neutral: bool,
}

const fn post(path: &'static str, body: Value) -> Wish {
    Wish { method: Method::POST, path, body, after: None, neutral: false }
}

impl Wish {
    /// The request for a kind; an order has a path of its own.
    #[must_use]
    pub fn of(kind: SagaKind) -> Option<Self> {
        let nothing = || Value::Object(serde_json::Map::new());
        let delete = |path| Self { method: Method::DELETE, path, body: Value::Null, after: None, neutral: false };
        Some(match kind.word() {
            "provision" => Self { neutral: true, ..post("", nothing()) },
            "start" => Self { after: Some("stop"), neutral: true, ..post("/start", nothing()) },
            "stop" => post("/stop", nothing()),
            "restart" => Self { neutral: true, ..post("/restart", nothing()) },
            "reset" => Self { neutral: true, ..post("/reset", nothing()) },
            "password_reset" => Self { neutral: true, ..post("/password-reset", nothing()) },
            "reinstall" => post("/reinstall", nothing()),
            "resize" => post("/resize", json!({ "vcpu": 4, "memory_mib": 8_192, "disk_gib": 100 })),
            "rename" => post("/rename", json!({ "host_name": "desk-2" })),
            "suspend" => post("/suspend", nothing()),
            "unsuspend" => Self { after: Some("suspend"), ..post("/unsuspend", nothing()) },
            "rescue" => post("/rescue", nothing()),
            "unrescue" => Self { after: Some("rescue"), ..post("/unrescue", nothing()) },
            "restore" => Self { after: Some("delete_later"), ..post("/restore", nothing()) },
            "delete_later" => delete("?grace_seconds=86400"),
            // Nobody asks for it: the control plane begins it when a fenced node is back.
            "realign" => Self { neutral: true, ..post("/realign", nothing()) },
            "delete" => delete("?grace_seconds=0"),
            _ => return None,
        })
    }

    /// What must have ended before.
    #[must_use]
    pub fn before(&self) -> Option<SagaKind> {
        SagaKind::ALL.iter().copied().find(|kind| Some(kind.word()) == self.after)
    }
}
