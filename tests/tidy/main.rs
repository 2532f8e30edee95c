//! The rules of the house that no compiler checks: sizes, names, who may import whom, what a repository may contain.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod imports;
mod sources;

use std::collections::BTreeSet;

use sources::{Source, files_with, root, rust_sources};

/// A file longer than this must be split.
const FILE_LINES_MAX: usize = 800;

/// Which of our crates a crate may depend on (ARCHITECTURE, "Who may import whom").
const CRATE_RULES: &[(&str, &[&str])] = &[
    ("proto/types", &[]),
    ("proto/wire", &["types"]),
    ("proto/trace", &["types"]),
    ("agent", &["types", "wire", "trace"]),
    ("control-plane/model", &["types"]),
    ("control-plane/store", &["types", "model"]),
    ("control-plane/providers", &["types", "model", "wire", "trace"]),
    ("control-plane/proof", &["types"]),
    ("control-plane/api", &["types"]),
    ("control-plane/simulate", &[]),
    ("control-plane/cli", &["types", "api", "model", "proof", "simulate"]),
    ("control-plane", &["types", "wire", "trace", "model", "store", "providers", "proof", "api"]),
    ("installer", &["types", "wire", "proof"]),
];

/// Outside crates that only one of ours may link.
const OWNED: &[(&str, &[&str])] = &[
    ("sqlx", &["control-plane/store"]),
    ("virt", &["agent"]),
    ("virt-sys", &["agent"]),
    ("axum", &["control-plane"]),
    ("opentelemetry", &["proto/trace"]),
    ("opentelemetry_sdk", &["proto/trace"]),
    ("opentelemetry-otlp", &["proto/trace"]),
    ("tracing-opentelemetry", &["proto/trace"]),
    ("openssl", &[]),
    ("native-tls", &[]),
    ("ring", &[]),
];

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    let mut problems = Vec::new();
    for Source { path, text } in rust_sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            problems.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX}: split it by noun"));
        }
    }
    report(&problems);
}

#[test]
fn no_name_says_nothing() {
    let empty: BTreeSet<&str> = ["utils", "util", "common", "helper", "helpers", "manager", "misc"].into();
    let mut problems = Vec::new();
    for Source { path, .. } in rust_sources() {
        for part in path.split('/') {
            if empty.contains(part.trim_end_matches(".rs")) {
                problems.push(format!("{path}: {part} names no thing: say what it holds"));
            }
        }
    }
    report(&problems);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["todo!", "unimplemented!", concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), "#[ignore"];
    let mut problems = Vec::new();
    for Source { path, text } in rust_sources().into_iter().filter(|source| source.path != "tests/tidy/main.rs") {
        for (number, line) in text.lines().enumerate() {
            for mark in marks {
                if line.contains(mark) {
                    problems.push(format!("{path}:{}: {mark}", number + 1));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut problems = Vec::new();
    for Source { path, text } in rust_sources() {
        // The name of a file of tests, and the names of its tests, say it.
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        if !text.trim_start().is_empty() && !text.starts_with("//!") && !text.starts_with("#![") {
            problems.push(format!("{path}: the first line says what the module is for (//!)"));
        }
    }
    report(&problems);
}

#[test]
fn crates_depend_only_on_what_the_architecture_allows() {
    let mut problems = Vec::new();
    for (path, text) in files_with("Cargo.toml") {
        let Some(folder) = path.strip_suffix("/Cargo.toml").filter(|folder| *folder != "tests") else { continue };
        let Some((_, allowed)) = CRATE_RULES.iter().find(|(name, _)| *name == folder) else {
            problems.push(format!("{path}: the crate stands in no rule of tests/tidy"));
            continue;
        };
        for dependency in dependencies(&text) {
            if let Some(ours) = dependency.strip_prefix("nemordp-").filter(|ours| !allowed.contains(ours)) {
                problems.push(format!("{path}: {folder} may not depend on {ours}"));
            }
            if let Some((_, owners)) = OWNED.iter().find(|(name, _)| *name == dependency)
                && !owners.contains(&folder)
            {
                problems.push(format!("{path}: {dependency} belongs to {owners:?}"));
            }
        }
    }
    report(&problems);
}

/// The names under `[dependencies]`; what tests use is free.
fn dependencies(manifest: &str) -> Vec<String> {
    let parsed: toml::Table = toml::from_str(manifest).unwrap();
    let table = parsed.get("dependencies").and_then(toml::Value::as_table);
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn modules_import_only_downwards() {
    report(&imports::violations());
}

#[test]
fn nothing_of_the_machine_it_was_written_on_stays() {
    let folder = root();
    let workshop =
        folder.parent().and_then(|parent| parent.to_str()).filter(|parent| parent.len() > 1).unwrap_or("/nowhere");
    let needle = format!("{workshop}/");
    let mut problems = Vec::new();
    for ending in [".rs", ".md", ".toml", ".sh", ".yml", ".json", "Makefile", ".ci/run"] {
        for (path, text) in files_with(ending) {
            if needle.len() > 4 && text.contains(&needle) {
                problems.push(format!("{path} names {needle}"));
            }
        }
    }
    report(&problems);
}

#[test]
fn the_readme_names_targets_that_exist() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let makefile = read("Makefile");
    let mut problems = Vec::new();
    for document in ["README.md", "CONTRIBUTING.md"] {
        for word in read(document).split('`').filter_map(|code| code.strip_prefix("make ")) {
            let target = word.split_whitespace().next().unwrap_or_default();
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                problems.push(format!("{document}: `make {target}` stands in no Makefile"));
            }
        }
    }
    report(&problems);
}

#[test]
fn the_architecture_names_files_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut problems = Vec::new();
    for word in text.split('`') {
        let is_path =
            word.contains('/') && !word.contains([' ', '{', '*', '<', ':', '\n', '$']) && !word.starts_with('/');
        if is_path && word.contains('.') && !root().join(word).exists() {
            problems.push(format!("ARCHITECTURE.md names {word}, which is not there"));
        }
    }
    report(&problems);
}
