//! GPUs that are handed through to guests: where they sit, and which of them an instance gets.
//!
//! Which ones an instance has stands in its domain, nowhere else: whoever gives some away holds the host's lock, looks at
//! every domain of the machine, and defines its own before it lets go. So two instances never get the same one, whatever the
//! control plane counts, and each keeps its own as long as its domain is there.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use nemordp_types::instance::GpuSpec;
use nemordp_types::node::GpuInventory;
use nemordp_types::{Failure, Reason};
use serde::{Deserialize, Serialize};

use crate::config::GpuConfig;

/// Where a device sits: domain, bus, slot and function, as `lspci -D` writes it, `0000:01:00.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// Domain, nearly always 0.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// Slot, up to 31.
    pub slot: u8,
    /// Function, up to 7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.slot, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::field("address", "use a PCI address as `lspci -D` shows it, like 0000:01:00.0");
        let hex = |part: &str, digits: usize| -> Result<u16, Failure> {
            let plain = part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
            if plain { u16::from_str_radix(part, 16).map_err(|_| bad()) } else { Err(bad()) }
        };
        let byte = |part: &str, digits: usize, most: u8| -> Result<u8, Failure> {
            u8::try_from(hex(part, digits)?).ok().filter(|value| *value <= most).ok_or_else(bad)
        };
        let (domain, rest) = text.split_once(':').ok_or_else(bad)?;
        let (bus, rest) = rest.split_once(':').ok_or_else(bad)?;
        let (slot, function) = rest.split_once('.').ok_or_else(bad)?;
        Ok(Self {
            domain: hex(domain, 4)?,
            bus: byte(bus, 2, u8::MAX)?,
            slot: byte(slot, 2, 31)?,
            function: byte(function, 1, 7)?,
        })
    }
}

impl TryFrom<String> for PciAddress {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

/// How many of each model there are, by model.
pub fn inventory<'g>(gpus: impl IntoIterator<Item = &'g GpuConfig>) -> Vec<GpuInventory> {
    let mut found: Vec<GpuInventory> = Vec::new();
    for gpu in gpus {
        match found.iter_mut().find(|known| known.model == gpu.model) {
            Some(known) => known.count += 1,
            None => found.push(GpuInventory { model: gpu.model.clone(), count: 1 }),
        }
    }
    found.sort();
    found
}

/// The GPUs that an instance gets: those that it `has` already, as far as they are of the wanted model and still there, and
/// then the first that nobody else has. `taken` are those of all other domains of the machine, foreign ones too.
///
/// # Errors
/// `capacity_exhausted` with the field `spec.gpus` when too few of the model are left.
pub fn choose(
    gpus: &[GpuConfig],
    wanted: &GpuSpec,
    has: &[PciAddress],
    taken: &BTreeSet<PciAddress>,
) -> Result<Vec<PciAddress>, Failure> {
    let usable = |gpu: &&GpuConfig| gpu.model == wanted.model && !taken.contains(&gpu.address);
    let free: Vec<PciAddress> = gpus.iter().filter(usable).map(|gpu| gpu.address).collect();
    let kept = has.iter().copied().filter(|address| free.contains(address));
    let others = free.iter().copied().filter(|address| !has.contains(address));
    let count = usize::try_from(wanted.count).unwrap_or(usize::MAX);
    let chosen: Vec<PciAddress> = kept.chain(others).take(count).collect();
    if chosen.len() == count {
        return Ok(chosen);
    }
    let (model, there) = (&wanted.model, gpus.iter().filter(|gpu| gpu.model == wanted.model).count());
    let message = format!(
        "{count} GPU(s) of model {model} are wanted; this node has {there}, of which {} are not another domain's: place it \
         on another node, or look at [[gpu]] in the agent's configuration",
        free.len()
    );
    let held: Vec<String> = taken.iter().map(ToString::to_string).collect();
    let failure = Failure::new(Reason::CapacityExhausted, message).with_field("spec.gpus");
    Err(failure.with_context(format!("held by other domains: {}", held.join(", "))))
}

#[cfg(test)]
mod tests {
    use nemordp_types::GpuModel;

    use super::*;

    fn at(slot: u8) -> PciAddress {
        PciAddress { domain: 0, bus: 1, slot, function: 0 }
    }

    fn gpu(model: &str, slot: u8) -> GpuConfig {
        GpuConfig { model: GpuModel::new(model).unwrap(), address: at(slot) }
    }

    fn wanted(model: &str, count: u32) -> GpuSpec {
        GpuSpec { model: GpuModel::new(model).unwrap(), count }
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["0000:01:00.0", "0001:ff:1f.7", "ffff:00:00.1"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "01:00.0",
            "0000:01:00",
            "0000:1:00.0",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:01:00.0 ",
            "g000:01:00.0",
            "0000:01:+1.0",
        ] {
            assert_eq!(bad.parse::<PciAddress>().unwrap_err().field.as_deref(), Some("address"), "{bad}");
        }
    }

    #[test]
    fn gpus_are_counted_by_model() {
        let counted = inventory(&[gpu("rtx4000", 0), gpu("l40s", 1), gpu("rtx4000", 2)]);
        let counted: Vec<(&str, u32)> = counted.iter().map(|found| (found.model.as_str(), found.count)).collect();
        assert_eq!(counted, [("l40s", 1), ("rtx4000", 2)]);
    }

    #[test]
    fn an_instance_keeps_its_own_and_never_gets_anothers() {
        let gpus = [gpu("rtx4000", 0), gpu("rtx4000", 1), gpu("l40s", 2), gpu("rtx4000", 3)];
        let none = BTreeSet::new();
        assert_eq!(choose(&gpus, &wanted("rtx4000", 2), &[], &none).unwrap(), [at(0), at(1)]);
        assert_eq!(choose(&gpus, &wanted("rtx4000", 2), &[at(3)], &none).unwrap(), [at(3), at(0)], "it keeps its own");
        let taken = BTreeSet::from([at(0), at(3)]);
        assert_eq!(choose(&gpus, &wanted("rtx4000", 1), &[at(3)], &taken).unwrap(), [at(1)], "another has what it had");
        let refused = choose(&gpus, &wanted("rtx4000", 2), &[], &taken).unwrap_err();
        assert_eq!((refused.reason, refused.field.as_deref()), (Reason::CapacityExhausted, Some("spec.gpus")));
        assert!(refused.message.contains("this node has 3, of which 1"), "{}", refused.message);
        assert!(choose(&gpus, &wanted("h100", 1), &[], &none).is_err(), "no such model");
        assert_eq!(choose(&gpus, &wanted("l40s", 1), &[at(0)], &none).unwrap(), [at(2)], "another model than it had");
    }
}
