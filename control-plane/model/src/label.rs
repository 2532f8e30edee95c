//! Names that people give to things: tenants, API keys, nodes, a storefront's own reference.

use std::fmt;
use std::str::FromStr;

use nemordp_types::Failure;
use serde::{Deserialize, Deserializer, Serialize};

/// 1 to 128 characters, none of them a control character, no blanks at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// Checks the rule; `field` names the request field in the error.
    pub fn new(text: impl Into<String>, field: &str) -> Result<Self, Failure> {
        let text = text.into();
        let fits = (1..=128).contains(&text.chars().count());
        if fits && text.trim() == text && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(Failure::field(field, "use 1 to 128 printable characters, without blanks at either end"))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        Self::new(text, "name")
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?, "name").map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_printable_and_bounded() {
        assert!(Label::new("Reseller Süd GmbH", "name").is_ok());
        for bad in ["", " a", "a ", "a\nb", &"x".repeat(129)] {
            assert_eq!(Label::new(bad, "name").unwrap_err().field.as_deref(), Some("name"), "{bad:?}");
        }
    }
}
