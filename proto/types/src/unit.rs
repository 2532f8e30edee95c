//! Amounts with their unit in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! amounts {
    ($($(#[$doc:meta])* $name:ident($inner:ty) => $suffix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// Sum, unless it overflows.
            #[must_use]
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Difference, never below zero.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}", $suffix), self.0)
            }
        }
    )*};
}

amounts! {
    /// Virtual processors.
    Vcpu(u32) => " vCPU";
    /// Memory, in units of 2^20 bytes.
    MiB(u64) => " MiB";
    /// Disk, in units of 2^30 bytes.
    GiB(u64) => " GiB";
    /// Bytes.
    Bytes(u64) => " B";
}

impl From<GiB> for Bytes {
    fn from(amount: GiB) -> Self {
        Self(amount.0.saturating_mul(1 << 30))
    }
}

impl From<MiB> for Bytes {
    fn from(amount: MiB) -> Self {
        Self(amount.0.saturating_mul(1 << 20))
    }
}

impl Bytes {
    /// The smallest whole number of GiB that holds this many bytes.
    #[must_use]
    pub const fn to_gib_ceil(self) -> GiB {
        GiB(self.0.div_ceil(1 << 30))
    }
}
