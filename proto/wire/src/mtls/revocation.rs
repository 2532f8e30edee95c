//! The numbered list of certificates that nobody accepts any more.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::identity::canonical_serial;

#[derive(Debug, Default)]
struct List {
    number: u64,
    serials: HashSet<Vec<u8>>,
}

/// Shared by every server of a process; replaced as a whole when a newer list arrives.
#[derive(Debug, Clone, Default)]
pub struct Revocations(Arc<ArcSwap<List>>);

impl Revocations {
    /// An empty list, number 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a newer list; an older or equal number changes nothing.
    pub fn replace(&self, number: u64, serials: impl IntoIterator<Item = Vec<u8>>) {
        let list =
            Arc::new(List { number, serials: serials.into_iter().map(|serial| canonical_serial(&serial)).collect() });
        self.0.rcu(|present| if list.number > present.number { Arc::clone(&list) } else { Arc::clone(present) });
    }

    /// The number of the list that is in force; 0: none yet.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.load().number
    }

    /// Whether a serial number is on the list.
    #[must_use]
    pub fn contains(&self, serial: &[u8]) -> bool {
        self.0.load().serials.contains(&canonical_serial(serial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_list_changes_nothing() {
        let revocations = Revocations::new();
        revocations.replace(2, [vec![0, 9]]);
        revocations.replace(1, []);
        assert_eq!(revocations.number(), 2);
        assert!(revocations.contains(&[9]), "leading zeros do not matter");
        revocations.replace(3, []);
        assert!(!revocations.contains(&[9]));
    }
}
