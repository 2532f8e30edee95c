//! Module lines inside a crate: who may name whom, read from the syntax tree.

use syn::visit::Visit;

use crate::sources::rust_sources;

/// In the files under `folder`, modules of the crate that may not be named.
const RULES: &[(&str, &[&str])] = &[
    ("control-plane/src/saga", &["http", "grpc", "app", "console", "reconcile"]),
    ("control-plane/src/reconcile", &["http", "grpc", "console"]),
    ("control-plane/src/app", &["http", "grpc", "console"]),
    ("control-plane/src/grpc", &["http", "console"]),
    ("control-plane/src/pki", &["http", "grpc", "app", "saga", "reconcile"]),
    ("agent/src/host", &["instance", "rpc", "uplink", "metrics", "journal"]),
    ("agent/src/instance", &["rpc", "uplink"]),
    ("agent/src/journal", &["instance", "rpc", "uplink", "host"]),
];

/// Every place that breaks a rule.
pub(crate) fn violations() -> Vec<String> {
    let mut problems = Vec::new();
    for source in rust_sources() {
        for (folder, forbidden) in RULES {
            let inside = source.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs");
            if !inside {
                continue;
            }
            let file = syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
            let mut found = CrateModules::default();
            found.visit_file(&file);
            for module in found.0 {
                if forbidden.contains(&module.as_str()) {
                    problems.push(format!("{}: {folder} may not name crate::{module}", source.path));
                }
            }
        }
    }
    problems
}

/// Collects `x` of every `crate::x`, in `use` and in paths; what stands under `#[cfg(test)]` is free.
#[derive(Default)]
struct CrateModules(Vec<String>);

impl<'ast> Visit<'ast> for CrateModules {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let for_tests = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        });
        if !for_tests {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if let syn::UseTree::Path(path) = &item.tree
            && path.ident == "crate"
        {
            self.heads(&path.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate")
            && let Some(second) = segments.next()
        {
            self.0.push(second.ident.to_string());
        }
        syn::visit::visit_path(self, path);
    }
}

impl CrateModules {
    fn heads(&mut self, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.0.push(path.ident.to_string()),
            syn::UseTree::Name(name) => self.0.push(name.ident.to_string()),
            syn::UseTree::Rename(rename) => self.0.push(rename.ident.to_string()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.heads(item)),
            syn::UseTree::Glob(_) => {}
        }
    }
}
