//! The OpenAPI document: a golden file, and what it promises about every operation.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ALL, Plane};

/// Operations that need no key.
const OPEN: &[&str] = &["healthz", "readyz", "credentials_reveal"];
/// POSTs whose answers are secrets and are never kept, those that change nothing, and those that do the same however often
/// they come.
const WITHOUT_INTENTION: &[&str] =
    &["credentials_link", "credentials_reveal", "placement_what_if", "audit_run", "reconciler_run"];

fn document() -> Value {
    serde_json::from_str(&nemordp_control_plane::http::document().to_json().unwrap()).unwrap()
}

struct Operation {
    id: String,
    method: Method,
    path: String,
    scope: Option<String>,
    value: Value,
}

fn operations() -> Vec<Operation> {
    let document = document();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, value) in item.as_object().unwrap() {
            found.push(Operation {
                id: value["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                scope: value["security"][0]["api_key"][0].as_str().map(str::to_owned),
                value: value.clone(),
            });
        }
    }
    found
}

/// A path that can be asked for: ids and names that nothing has.
fn filled(path: &str) -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    path.replace("{plan}", "none")
        .replace("{template}/file", &format!("{digest}/file"))
        .replace("{template}", "none")
        .split('/')
        .map(|part| if part.starts_with('{') { "01890000-0000-7000-8000-000000000001" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let found = format!("{}\n", nemordp_control_plane::http::document().to_pretty_json().unwrap());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    let reviewed = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(found == reviewed, "the API changed: run with BLESS=1, and review the difference of {}", golden.display());
}

#[test]
fn every_operation_says_what_it_needs_and_how_it_refuses() {
    let operations = operations();
    assert!(operations.len() >= 35, "{}", operations.len());
    for operation in &operations {
        let Operation { id, method, value, scope, .. } = operation;
        assert_eq!(scope.is_none(), OPEN.contains(&id.as_str()), "{id}: scope {scope:?}");
        if let Some(scope) = scope {
            assert!(ALL.contains(&scope.as_str()), "{id}: {scope}");
            for status in ["401", "403", "429"] {
                assert!(value["responses"][status].is_object(), "{id} does not document {status}");
            }
        }
        let takes_intention = value["parameters"]
            .as_array()
            .is_some_and(|list| list.iter().any(|parameter| parameter["name"] == "Idempotency-Key"));
        let changes = *method == Method::POST && !WITHOUT_INTENTION.contains(&id.as_str());
        assert_eq!(takes_intention, changes, "{id}: Idempotency-Key");
        assert!(value["summary"].is_string() || value["description"].is_string(), "{id} is not explained");
    }
    let text = document().to_string();
    for part in text.split("\"$ref\":\"").skip(1) {
        let name = part.split('"').next().unwrap().rsplit('/').next().unwrap();
        assert!(document()["components"]["schemas"][name].is_object(), "{name} is referred to and missing");
    }
}

#[tokio::test]
async fn every_operation_refuses_a_missing_key_and_a_missing_scope() {
    let plane = Plane::start().await;
    for operation in operations() {
        let Some(scope) = &operation.scope else { continue };
        let path = filled(&operation.path);
        let ask = |key: Option<&str>| {
            let mut request = plane.bare(operation.method.clone(), &path).header("Idempotency-Key", "matrix");
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            if operation.method == Method::PUT { request.body("x") } else { request.json(&json!({})) }
        };
        plane.send(ask(None)).await.refused(401, "unauthenticated", None);
        let others: Vec<&str> = ALL.iter().copied().filter(|other| other != scope).collect();
        let without = plane.key_for("default", &others).await;
        let problem = plane.send(ask(Some(&without))).await.refused(403, "forbidden", None);
        assert!(problem["detail"].as_str().unwrap().contains(scope.as_str()), "{}: {problem}", operation.id);
        let only = plane.key_for("default", &[scope.as_str()]).await;
        let allowed = plane.send(ask(Some(&only))).await.status.as_u16();
        assert!(!matches!(allowed, 401 | 403 | 405 | 500..), "{} {path}: {allowed}", operation.id);
        // The failures above are counted for this address.
        plane.clock.advance(std::time::Duration::from_secs(61));
    }
}
