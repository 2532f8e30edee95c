//! Amounts of the four things that a node sells.

/// How many things are counted.
pub const DIMENSIONS: usize = 4;
/// Index of processors.
pub const VCPU: usize = 0;
/// Index of memory, MiB.
pub const MEMORY: usize = 1;
/// Index of disk, GiB.
pub const DISK: usize = 2;
/// Index of GPUs.
pub const GPU: usize = 3;

/// Processors, memory in MiB, disk in GiB, GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amounts(pub [u32; DIMENSIONS]);

impl Amounts {
    /// Whether all of it fits into what is free.
    #[must_use]
    #[inline]
    pub fn fits(self, free: Self) -> bool {
        // Without branches, so that a scan over many nodes becomes vector instructions.
        (0..DIMENSIONS).fold(true, |fits, d| fits & (self.0[d] <= free.0[d]))
    }

    /// The sum, never beyond the largest number.
    #[must_use]
    #[inline]
    pub fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|d| self.0[d].saturating_add(other.0[d])))
    }

    /// The difference, never below zero.
    #[must_use]
    #[inline]
    pub fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|d| self.0[d].saturating_sub(other.0[d])))
    }

    /// The larger of both, of each thing.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        Self(std::array::from_fn(|d| self.0[d].max(other.0[d])))
    }

    /// How many of these fit into what is free.
    #[must_use]
    #[inline]
    pub fn slots(self, free: Self) -> u32 {
        (0..DIMENSIONS).filter_map(|d| free.0[d].checked_div(self.0[d])).min().unwrap_or(u32::MAX)
    }

    /// Nothing at all.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; DIMENSIONS]
    }
}
