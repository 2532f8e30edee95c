//! Names that people choose, each with the rule it must keep.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::failure::Failure;

/// Lower-case letters, digits, `-`, `.` and `_`, starting with a letter or digit, at most 63 characters.
fn slug(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'))
        && text.len() <= 63
}

/// One label of RFC 1123: letters, digits and inner hyphens, at most 63 characters.
fn label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !text.is_empty() && text.len() <= 63 && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(inner)
}

/// A POSIX login name (`useradd`'s default rule): a lower-case letter or `_`, then also digits and `-`, at most 32.
fn login(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        && text.len() <= 32
}

/// A name of the IANA time zone database, by its form: `Area/Location`, `UTC`; never a path out of the database.
fn zone(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.split('/').all(|part| {
            part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+'))
        })
}

/// An XKB layout, with an optional variant in parentheses: `de`, `us`, `ch(fr)`.
fn keyboard(text: &str) -> bool {
    let (layout, variant) = match text.split_once('(') {
        Some((layout, rest)) => match rest.strip_suffix(')') {
            Some(variant) if !variant.is_empty() => (layout, variant),
            Some(_) | None => return false,
        },
        None => (text, ""),
    };
    (2..=12).contains(&layout.len())
        && layout.bytes().all(|b| b.is_ascii_lowercase())
        && variant.len() <= 32
        && variant.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $rule:ident, $field:literal, $fix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks the rule; the error names the field and the fix.
            pub fn new(text: impl Into<String>) -> Result<Self, Failure> {
                let text = text.into();
                if $rule(&text) { Ok(Self(text)) } else { Err(Failure::field($field, $fix)) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Failure;

            fn from_str(text: &str) -> Result<Self, Failure> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// What is sold: `basic`, `performance`, `gpu`.
    PlanName, slug, "plan", "use lower-case letters, digits, '-', '.' and '_', at most 63, starting with a letter or digit";
    /// A prepared golden disk, with its version in the name: `debian-12-xrdp`.
    TemplateName, slug, "template", "use lower-case letters, digits, '-', '.' and '_', at most 63, starting with a letter or digit";
    /// Where prices and addresses are alike: `fsn1`.
    RegionName, slug, "region", "use lower-case letters, digits, '-', '.' and '_', at most 63, starting with a letter or digit";
    /// What a pool is: `nvme`, `ssd`, `hdd`.
    StorageClass, slug, "storage_class", "use lower-case letters, digits, '-', '.' and '_', at most 63, starting with a letter or digit";
    /// The make of a GPU, as plans and nodes name it: `rtx4000`, `l40s`.
    GpuModel, slug, "gpu_model", "use lower-case letters, digits, '-', '.' and '_', at most 63, starting with a letter or digit, like rtx4000";
    /// Name of the guest on its network (RFC 1123 label).
    HostName, label, "host_name", "use letters, digits and inner hyphens, at most 63 characters";
    /// Who logs in inside the guest.
    LoginName, login, "login_name", "use a lower-case letter, then lower-case letters, digits, '-' and '_', at most 32";
    /// Time zone of the guest: `Europe/Berlin`.
    TimeZoneName, zone, "time_zone", "use a name of the IANA time zone database, like Europe/Berlin or UTC";
    /// Keyboard layout of the guest (XKB): `de`, `us`, `ch(fr)`.
    KeyboardLayout, keyboard, "keyboard", "use an XKB layout like de, us or ch(fr)";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_break_their_rule_are_refused_with_the_field() {
        for bad in ["", "-a", "Basic", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(PlanName::new(bad).unwrap_err().field.as_deref(), Some("plan"), "{bad:?}");
        }
        for bad in ["", "-a", "a-", "a.b", "a_b", "\u{0}"] {
            assert!(HostName::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["../etc/passwd", "/UTC", "Europe/", "Europe//Berlin", "1x", ""] {
            assert!(TimeZoneName::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["d", "DE", "de;x", "de(", "de()", "de)x("] {
            assert!(KeyboardLayout::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["root;", "0a", "", "Üser"] {
            assert!(LoginName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn usual_names_pass() {
        assert!(PlanName::new("gpu-2x").is_ok());
        assert!(HostName::new("Desk-1").is_ok());
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(TimeZoneName::new(good).is_ok(), "{good}");
        }
        for good in ["de", "us", "ch(fr)", "latam"] {
            assert!(KeyboardLayout::new(good).is_ok(), "{good}");
        }
        assert!(serde_json::from_str::<LoginName>("\"Bad Name\"").is_err());
    }
}
