//! Which domain of the machine has which GPU.

use std::collections::BTreeSet;

use nemordp_types::instance::GpuSpec;
use nemordp_types::{Failure, InstanceId};
use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use super::domains::no_domain;
use super::parse::pci_devices;
use super::{LibvirtHost, LibvirtSettings};
use crate::config::GpuConfig;
use crate::host::gpu::{PciAddress, choose};

/// Says at the start which of the configured GPUs no guest can have as the machine is now.
pub(super) fn tell_unusable(settings: &LibvirtSettings) {
    for gpu in &settings.gpus {
        let device = settings.pci_dir.join(gpu.address.to_string());
        let fix = if !device.exists() {
            "no such device is there, and it is not offered: compare [[gpu]] with `lspci -D`"
        } else if !device.join("iommu_group").exists() {
            "the IOMMU is off, guests that have it will not start: switch it on (intel_iommu=on or amd_iommu=on)"
        } else {
            continue;
        };
        tracing::warn!(address = %gpu.address, model = %gpu.model, "a GPU cannot be used: {fix}");
    }
}

/// What an instance's domain has, and what all others have.
type Held = (Vec<PciAddress>, BTreeSet<PciAddress>);

/// Reads every domain, ours and foreign ones: as it is defined, and as it runs.
fn held(connect: &Connect, instance: InstanceId) -> Result<Held, Error> {
    let (mut own, mut taken) = (Vec::new(), BTreeSet::new());
    for domain in connect.list_all_domains(0)? {
        let Some(defined) = no_domain(domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))? else { continue };
        if domain.get_uuid()? == instance.as_uuid() {
            own = pci_devices(&defined);
            continue;
        }
        taken.extend(pci_devices(&defined));
        let Some(running) = no_domain(domain.get_xml_desc(0))? else { continue };
        taken.extend(pci_devices(&running));
    }
    Ok((own, taken))
}

impl LibvirtHost {
    /// The configured GPUs that the kernel shows: one that has failed is not offered, and not given to anybody.
    pub(super) fn gpus_present(&self) -> Vec<GpuConfig> {
        let is_there = |gpu: &&GpuConfig| self.settings.pci_dir.join(gpu.address.to_string()).exists();
        self.settings.gpus.iter().filter(is_there).cloned().collect()
    }

    /// The GPUs that an instance's domain is to have. Whoever asks holds the lock `gpus` until that domain is defined.
    pub(super) async fn choose_gpus(
        &self,
        instance: InstanceId,
        wanted: Option<&GpuSpec>,
    ) -> Result<Vec<PciAddress>, Failure> {
        let Some(wanted) = wanted else { return Ok(Vec::new()) };
        let (own, taken) = self.connection.call(move |connect| held(connect, instance)).await?;
        choose(&self.gpus_present(), wanted, &own, &taken)
    }
}
