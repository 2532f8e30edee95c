//! Values that are written as text in the configuration and checked while it is read.

use std::fmt;
use std::str::FromStr;

use nemordp_types::Failure;
use serde::{Deserialize, Deserializer};

/// Host name or address, and port, at which the control plane serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlaneAddress(String);

impl ControlPlaneAddress {
    /// As the resolver takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ControlPlaneAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ControlPlaneAddress {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::field("control_plane", "use host and port, like control.example.net:7443");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        if host.is_empty() || host.contains('/') || port == 0 {
            return Err(bad());
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ControlPlaneAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a value through its `FromStr`.
pub(super) fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
