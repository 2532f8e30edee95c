//! What an operator does today: `virt-clone` of a domain that holds the template, then start.

use std::time::{Duration, Instant};

use super::bare::{BareHost, Slot};
use super::guest::answer;
use super::libvirt::Libvirt;
use super::{Batch, Sample, file_error};
use crate::trial::Result;

const CLONE_LIMIT: Duration = Duration::from_secs(600);
const GOLDEN: &str = "golden";

pub(super) fn batch(bare: &BareHost) -> Result<Batch> {
    define_golden(bare)?;
    let mut slot = bare.slot(super::AT_ONCE)?;
    let libvirt = Libvirt::open(&bare.host.libvirt_uri())?;
    let began = Instant::now();
    let outcome = clone(bare, &mut slot, &libvirt, began);
    bare.remove(&slot)?;
    let sample = outcome?;
    Ok(Batch { makespan: sample.total, samples: vec![sample] })
}

fn clone(bare: &BareHost, slot: &mut Slot, libvirt: &Libvirt, began: Instant) -> Result<Sample> {
    let (disk, mac) = (slot.disk.display().to_string(), slot.mac.to_string());
    let clone = ["virt-clone", "--quiet", "--original", GOLDEN, "--name", &slot.name, "--file", &disk, "--mac", &mac];
    bare.host.exec_within(CLONE_LIMIT, &clone)?.success()?;
    bare.host.exec(&["virsh", "--quiet", "start", &slot.name])?.success()?;
    // virt-clone chooses the id.
    let id = bare.host.exec(&["virsh", "--quiet", "domuuid", &slot.name])?.success()?.text();
    slot.id = id.trim().parse().map_err(|failure| answer("virsh domuuid", &failure))?;
    bare.to_the_proof(slot, libvirt, began, "virt-clone and start")
}

/// The domain to clone: the template's disk, shut off.
fn define_golden(bare: &BareHost) -> Result<()> {
    let known = bare.host.exec(&["virsh", "--quiet", "list", "--all", "--name"])?.success()?.text();
    if known.lines().any(|line| line.trim() == GOLDEN) {
        return Ok(());
    }
    let mut slot = bare.slot(super::AT_ONCE + 1)?;
    slot.name = GOLDEN.to_owned();
    slot.disk.clone_from(&bare.template);
    let file = bare.pool.join("golden.xml");
    std::fs::write(&file, bare.domain_of(&slot)).map_err(|source| file_error(&file, source))?;
    bare.host.exec(&["virsh", "--quiet", "define", &file.display().to_string()])?.success()?;
    Ok(())
}
