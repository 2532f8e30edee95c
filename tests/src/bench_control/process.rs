//! What a process costs, as the kernel says.

use crate::cluster::Program;

/// Resident memory, MiB.
pub(super) fn memory_mib(program: &Program) -> f64 {
    let status = program.id().and_then(|id| std::fs::read_to_string(format!("/proc/{id}/status")).ok());
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
    kib / 1_024.0
}

/// Processor time since the start, seconds.
pub(super) fn processor_seconds(id: u32) -> f64 {
    /// USER_HZ, the same on every Linux that Rust runs on.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / TICKS
}
