//! How strained the machine is beyond pressure: processor time that its own hypervisor took away, and how long its storage
//! takes. The kernel counts both since the boot; what is told is their growth between two looks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Looks that are closer together than this say nothing: ticks of all processors together.
const TICKS_MIN: u64 = 100;

/// A block device: major and minor number.
type Device = (u32, u32);

/// What is told of a stretch of time; nothing where the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Strain {
    /// Share of processor time that was taken away, percent.
    pub(super) steal: Option<f64>,
    /// How long a read or write took on the slowest device, milliseconds.
    pub(super) disk_latency_ms: Option<f64>,
}

/// The kernel's counters at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counters {
    /// Ticks in all, and those that were taken away.
    ticks: Option<(u64, u64)>,
    /// Of each device: operations, and milliseconds that they took.
    devices: Vec<(Device, u64, u64)>,
}

impl Counters {
    fn read(stat: &str, diskstats: &str, wanted: &BTreeSet<Device>) -> Self {
        let devices = diskstats.lines().filter_map(device).filter(|(device, ..)| wanted.contains(device));
        Self { ticks: ticks(stat), devices: devices.collect() }
    }

    /// What happened between then and now; nothing when the looks are too close.
    fn since(&self, before: &Self) -> Option<Strain> {
        let steal = match (self.ticks, before.ticks) {
            (Some((all, taken)), Some((all_then, taken_then))) => {
                let all = all.checked_sub(all_then)?;
                if all < TICKS_MIN {
                    return None;
                }
                Some(ratio(taken.saturating_sub(taken_then), all) * 100.0)
            }
            (Some(_) | None, _) => None,
        };
        let latency = |(device, operations, millis): &(Device, u64, u64)| {
            let (_, operations_then, millis_then) = before.devices.iter().find(|(other, ..)| other == device)?;
            let done = operations.checked_sub(*operations_then)?;
            Some(ratio(millis.checked_sub(*millis_then)?, done))
        };
        let slowest = self
            .devices
            .iter()
            .filter_map(latency)
            .fold(None, |worst: Option<f64>, one| Some(worst.map_or(one, |worst| worst.max(one))));
        Some(Strain { steal, disk_latency_ms: slowest })
    }
}

/// A share; of nothing, nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "growth within seconds, far below 2^52")]
    let ratio = part as f64 / whole as f64;
    ratio
}

/// The first line of `/proc/stat`: all ticks, and those that were stolen. Guests' time is part of the first two columns.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let columns: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let steal = *columns.get(7)?;
    Some((columns.iter().sum(), steal))
}

/// A line of `/proc/diskstats`: the device, its reads and writes, the milliseconds that they took.
fn device(line: &str) -> Option<(Device, u64, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| words.get(index)?.parse::<u64>().ok();
    let id = |index: usize| words.get(index)?.parse::<u32>().ok();
    let operations = number(3)?.checked_add(number(7)?)?;
    Some(((id(0)?, id(1)?), operations, number(6)?.checked_add(number(10)?)?))
}

/// The device beneath a file system; none of those that stand for no device of their own.
fn device_of(path: &Path) -> Option<Device> {
    use std::os::unix::fs::MetadataExt as _;
    let dev = std::fs::metadata(path).ok()?.dev();
    let device = (nix::libc::major(dev), nix::libc::minor(dev));
    (device.0 != 0).then_some(device)
}

/// Looks at the kernel's counters now and then.
#[derive(Debug)]
pub(super) struct Gauge {
    devices: BTreeSet<Device>,
    last: Mutex<(Option<Counters>, Strain)>,
}

impl Gauge {
    /// For the devices beneath these directories.
    pub(super) fn over<'p>(paths: impl Iterator<Item = &'p Path>) -> Self {
        Self { devices: paths.filter_map(device_of).collect(), last: Mutex::default() }
    }

    /// What happened since the last look that was long enough ago; nothing at the first one.
    pub(super) async fn look(&self) -> Strain {
        let stat = tokio::fs::read_to_string("/proc/stat").await.unwrap_or_default();
        let diskstats = tokio::fs::read_to_string("/proc/diskstats").await.unwrap_or_default();
        self.note(Counters::read(&stat, &diskstats, &self.devices))
    }

    fn note(&self, now: Counters) -> Strain {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, told) = &mut *last;
        match before.as_ref().map(|before| now.since(before)) {
            Some(None) => {}
            Some(Some(strain)) => (*before, *told) = (Some(now), strain),
            None => *before = Some(now),
        }
        *told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 0 50 800 10 0 5 35 90 0\ncpu0 100 0 50 800 10 0 5 35 90 0\nintr 1\n";
    const DISKS: &str = "\
   8       0 sda 999 0 8 999 999 0 8 999 0 9 9
 259       0 nvme0n1 1000 5 80000 400 500 7 40000 600 0 900 1000 0 0 0 0 3 9
 259       1 nvme0n1p1 10 0 80 4 5 0 40 6 0 9 10 0 0 0 0
";

    fn disks() -> BTreeSet<Device> {
        BTreeSet::from([(259, 0), (259, 1)])
    }

    #[test]
    fn the_kernels_words_are_read() {
        let counters = Counters::read(STAT, DISKS, &disks());
        assert_eq!(counters.ticks, Some((1_000, 35)));
        assert_eq!(counters.devices, [((259, 0), 1_500, 1_000), ((259, 1), 15, 10)]);
        let nonsense = Counters::read("cpu  1 2 x\n", "259 0 nvme0n1 1\n\n", &disks());
        assert_eq!(nonsense, Counters { ticks: None, devices: Vec::new() });
    }

    #[test]
    fn what_is_told_is_the_growth_between_two_looks() {
        let gauge = Gauge { devices: disks(), last: Mutex::default() };
        let look = |stat: &str, diskstats: &str| gauge.note(Counters::read(stat, diskstats, &disks()));
        assert_eq!(look(STAT, DISKS), Strain::default(), "one look shows no growth");
        let stat = "cpu  700 0 50 1150 10 0 5 85 90 0\n";
        let later = DISKS.replace("1000 5 80000 400 500 7 40000 600", "1100 5 80000 450 600 7 40000 950");
        let strain = look(stat, &later);
        assert_eq!(strain, Strain { steal: Some(5.0), disk_latency_ms: Some(2.0) });
        // Too soon: the same is told, and the stretch goes on from the look before.
        assert_eq!(look("cpu  701 0 50 1150 10 0 5 99 90 0\n", &later), strain);
        assert_eq!(look("cpu  1200 0 50 1650 10 0 5 85 90 0\n", &later).steal, Some(0.0));
        // A kernel that says less is believed as far as it goes.
        assert_eq!(
            look("cpu  2200 0 50 1650 10 0 5 85 90 0\n", ""),
            Strain { steal: Some(0.0), disk_latency_ms: None }
        );
        assert_eq!(look("", &later), Strain::default());
    }
}
