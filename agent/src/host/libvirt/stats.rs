//! Statistics of all domains in one call; the library wraps the call but not its answer.
#![expect(unsafe_code, reason = "the answer of virConnectGetAllDomainStats has no safe wrapper in the virt crate")]

use std::collections::HashMap;
use std::ffi::CStr;

use uuid::Uuid;
use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

/// Numbers of one domain by libvirt's name (`cpu.time`, `net.0.rx.bytes`, …), and the names of its disks and cards.
#[derive(Debug, Default)]
pub struct Stats {
    numbers: HashMap<String, u64>,
    texts: HashMap<String, String>,
}

impl Stats {
    /// A number; zero when libvirt does not have it.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// The place of the disk with this name in the guest.
    #[must_use]
    pub fn disk(&self, name: &str) -> Option<String> {
        let count = self.number("block.count");
        (0..count)
            .map(|index| format!("block.{index}"))
            .find(|at| self.texts.get(&format!("{at}.name")).is_some_and(|text| text == name))
    }
}

/// Reads all running domains; one that is busy gives what libvirt has without waiting.
pub fn all_running(connect: &Connect) -> Result<Vec<(Uuid, Stats)>, Error> {
    let wanted = sys::VIR_DOMAIN_STATS_CPU_TOTAL
        | sys::VIR_DOMAIN_STATS_BALLOON
        | sys::VIR_DOMAIN_STATS_BLOCK
        | sys::VIR_DOMAIN_STATS_INTERFACE;
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    // SAFETY: the connection is open, and libvirt fills `records` with a list that ends with a null pointer.
    let count = unsafe { sys::virConnectGetAllDomainStats(connect.as_ptr(), wanted, &raw mut records, flags) };
    let Ok(count) = usize::try_from(count) else { return Err(Error::last_error()) };
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: libvirt gave `count` records, each valid until the list is freed below.
        let record = unsafe { &**records.add(index) };
        if let Some(uuid) = uuid_of(record) {
            found.push((uuid, read(record)));
        }
    }
    // SAFETY: the list is libvirt's own and is freed once; nothing read from it is borrowed.
    unsafe { sys::virDomainStatsRecordListFree(records) };
    Ok(found)
}

fn uuid_of(record: &sys::virDomainStatsRecord) -> Option<Uuid> {
    let mut bytes = [0u8; 16];
    // SAFETY: the record holds a valid domain, and a UUID is 16 bytes.
    let result = unsafe { sys::virDomainGetUUID(record.dom, bytes.as_mut_ptr()) };
    (result == 0).then(|| Uuid::from_bytes(bytes))
}

fn read(record: &sys::virDomainStatsRecord) -> Stats {
    let mut stats = Stats::default();
    let count = usize::try_from(record.nparams).unwrap_or(0);
    for index in 0..count {
        // SAFETY: libvirt gave `nparams` parameters, valid as long as the record.
        let parameter = unsafe { &*record.params.add(index) };
        // SAFETY: a parameter's name is a field of fixed length that ends with a zero byte.
        let name = unsafe { CStr::from_ptr(parameter.field.as_ptr()) }.to_string_lossy().into_owned();
        // SAFETY: the type says which member of the union was written.
        unsafe {
            match u32::try_from(parameter.type_).unwrap_or(0) {
                sys::VIR_TYPED_PARAM_ULLONG => drop(stats.numbers.insert(name, parameter.value.ul)),
                sys::VIR_TYPED_PARAM_UINT => drop(stats.numbers.insert(name, u64::from(parameter.value.ui))),
                sys::VIR_TYPED_PARAM_STRING if !parameter.value.s.is_null() => {
                    let text = CStr::from_ptr(parameter.value.s).to_string_lossy().into_owned();
                    stats.texts.insert(name, text);
                }
                _ => {}
            }
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_drivers_domain_has_statistics() {
        let connect = Connect::open(Some("test:///default")).unwrap();
        let found = all_running(&connect);
        // The test driver of older libvirt has no statistics, and says so.
        if let Ok(found) = found {
            assert_eq!(found.len(), 1);
        }
    }
}
