//! Instances on the wire.

use nemordp_types::instance::{
    DesiredPower, DiskSet, Edition, GpuSpec, GuestSpec, InstanceSpec, InstanceStatus, NetworkSpec, ObservedPower,
    PowerAction,
};
use nemordp_types::{
    Bytes, Endpoint, Failure, Fence, Generation, GiB, GpuModel, HostName, KeyboardLayout, LoginName, MacAddr, MiB,
    Pair, StorageClass, Template, TimeZoneName, Vcpu,
};

use crate::{id, time, v1};

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self { address: endpoint.address.to_string(), port: endpoint.port.into() }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = Failure;

    fn try_from(message: v1::Endpoint) -> Result<Self, Failure> {
        Ok(Self {
            address: message.address.parse().map_err(|_| Failure::field("address", "use an IPv4 or IPv6 address"))?,
            port: port(message.port, "port")?,
        })
    }
}

/// A TCP port, 1 to 65535.
pub(crate) fn port(number: u32, field: &str) -> Result<u16, Failure> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Failure::field(field, "use a port from 1 to 65535"))
}

impl From<&InstanceSpec> for v1::InstanceSpec {
    fn from(spec: &InstanceSpec) -> Self {
        let power = match spec.power {
            DesiredPower::On => v1::DesiredPower::On,
            DesiredPower::Off => v1::DesiredPower::Off,
        };
        Self {
            order_id: id::encode(&spec.order_id),
            vcpu: spec.vcpu.0,
            memory_mib: spec.memory.0,
            disk_gib: spec.disk.0,
            storage_class: spec.storage_class.to_string(),
            template: Some((&spec.template).into()),
            mac: spec.network.mac.to_string(),
            private_ipv4: spec.network.private_ipv4.to_string(),
            endpoint: Some((&spec.network.endpoint).into()),
            host_name: spec.guest.host_name.to_string(),
            login_name: spec.guest.login_name.to_string(),
            time_zone: spec.guest.time_zone.as_ref().map(ToString::to_string).unwrap_or_default(),
            keyboard: spec.guest.keyboard.as_ref().map(ToString::to_string).unwrap_or_default(),
            power: power.into(),
            suspended: spec.suspended,
            disks: Some((&spec.disks).into()),
            gpus: spec.gpus.as_ref().map(Into::into),
        }
    }
}

impl From<&GpuSpec> for v1::GpuSpec {
    fn from(gpus: &GpuSpec) -> Self {
        Self { model: gpus.model.to_string(), count: gpus.count }
    }
}

impl TryFrom<v1::GpuSpec> for GpuSpec {
    type Error = Failure;

    fn try_from(message: v1::GpuSpec) -> Result<Self, Failure> {
        let model = GpuModel::new(message.model).map_err(|failure| failure.with_field("model"))?;
        if message.count == 0 {
            return Err(Failure::field("count", "use one GPU or more, or leave them out"));
        }
        Ok(Self { model, count: message.count })
    }
}

impl From<&DiskSet> for v1::DiskSet {
    fn from(disks: &DiskSet) -> Self {
        let number = |edition: Edition| edition.0;
        Self { system: disks.system.0, rescue: disks.rescue.map(number), kept: disks.kept.map(number) }
    }
}

impl TryFrom<v1::DiskSet> for DiskSet {
    type Error = Failure;

    fn try_from(message: v1::DiskSet) -> Result<Self, Failure> {
        let v1::DiskSet { system, rescue, kept } = message;
        if rescue == Some(system) {
            return Err(Failure::field("rescue", "use another edition than the system disk's"));
        }
        Ok(Self { system: Edition(system), rescue: rescue.map(Edition), kept: kept.map(Edition) })
    }
}

impl TryFrom<v1::InstanceSpec> for InstanceSpec {
    type Error = Failure;

    fn try_from(message: v1::InstanceSpec) -> Result<Self, Failure> {
        let power = match message.power() {
            v1::DesiredPower::On => DesiredPower::On,
            v1::DesiredPower::Off => DesiredPower::Off,
            v1::DesiredPower::Unspecified => return Err(Failure::field("power", "use on or off")),
        };
        for (amount, field) in
            [(u64::from(message.vcpu), "vcpu"), (message.memory_mib, "memory_mib"), (message.disk_gib, "disk_gib")]
        {
            if amount == 0 {
                return Err(Failure::field(field, "use an amount above zero"));
            }
        }
        let template =
            message.template.ok_or_else(|| Failure::field("template", "say what the instance is cloned from"))?;
        let template = Template::try_from(template).map_err(|failure| failure.within("template"))?;
        let disk = GiB(message.disk_gib);
        if Bytes::from(disk) < template.virtual_size {
            return Err(Failure::field(
                "disk_gib",
                format!("the template needs {} at least", template.virtual_size.to_gib_ceil()),
            ));
        }
        let endpoint = message.endpoint.ok_or_else(|| Failure::field("endpoint", "say where the customer connects"))?;
        let network = NetworkSpec {
            mac: message.mac.parse::<MacAddr>()?,
            private_ipv4: message
                .private_ipv4
                .parse()
                .map_err(|_| Failure::field("private_ipv4", "use an IPv4 address"))?,
            endpoint: Endpoint::try_from(endpoint).map_err(|failure| failure.within("endpoint"))?,
        };
        Ok(Self {
            order_id: id::decode(&message.order_id, "order_id")?,
            vcpu: Vcpu(message.vcpu),
            memory: MiB(message.memory_mib),
            disk,
            storage_class: StorageClass::new(message.storage_class)?,
            template,
            network,
            guest: GuestSpec {
                host_name: HostName::new(message.host_name)?,
                login_name: LoginName::new(message.login_name)?,
                time_zone: optional(message.time_zone, TimeZoneName::new)?,
                keyboard: optional(message.keyboard, KeyboardLayout::new)?,
            },
            power,
            suspended: message.suspended,
            disks: match message.disks {
                Some(disks) => DiskSet::try_from(disks).map_err(|failure| failure.within("disks"))?,
                None => DiskSet::default(),
            },
            gpus: message
                .gpus
                .map(|gpus| GpuSpec::try_from(gpus).map_err(|failure| failure.within("gpus")))
                .transpose()?,
        })
    }
}

/// Empty text stands for none.
fn optional<T>(text: String, parse: impl FnOnce(String) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

impl From<&PowerAction> for v1::PowerAction {
    fn from(action: &PowerAction) -> Self {
        match action {
            PowerAction::Start => Self::Start,
            PowerAction::Stop => Self::Stop,
            PowerAction::Restart => Self::Restart,
            PowerAction::Reset => Self::Reset,
        }
    }
}

impl TryFrom<v1::PowerAction> for PowerAction {
    type Error = Failure;

    fn try_from(message: v1::PowerAction) -> Result<Self, Failure> {
        match message {
            v1::PowerAction::Start => Ok(Self::Start),
            v1::PowerAction::Stop => Ok(Self::Stop),
            v1::PowerAction::Restart => Ok(Self::Restart),
            v1::PowerAction::Reset => Ok(Self::Reset),
            v1::PowerAction::Unspecified => Err(Failure::field("action", "use start, stop, restart or reset")),
        }
    }
}

impl From<&InstanceStatus> for v1::InstanceStatus {
    fn from(status: &InstanceStatus) -> Self {
        let power = match status.power {
            ObservedPower::Absent => v1::ObservedPower::Absent,
            ObservedPower::Off => v1::ObservedPower::Off,
            ObservedPower::Running => v1::ObservedPower::Running,
            ObservedPower::Paused => v1::ObservedPower::Paused,
            ObservedPower::Failed => v1::ObservedPower::Failed,
        };
        Self {
            instance_id: id::encode(&status.instance_id),
            order_id: id::encode(&status.order_id),
            generation: status.pair.generation.0,
            fence: status.pair.fence.0,
            power: power.into(),
            guest_agent: status.guest_agent,
            confirmed_ipv4: status.confirmed_ipv4.map(|address| address.to_string()).unwrap_or_default(),
            rdp_certificate_sha256: status
                .rdp_certificate_sha256
                .map(|hash| bytes::Bytes::copy_from_slice(&hash))
                .unwrap_or_default(),
            started_at_us: time::encode_option(status.started_at),
            vcpu: status.vcpu.0,
            memory_mib: status.memory.0,
            disk_bytes: status.disk.0,
            gpus: status.gpus,
        }
    }
}

impl TryFrom<v1::InstanceStatus> for InstanceStatus {
    type Error = Failure;

    fn try_from(message: v1::InstanceStatus) -> Result<Self, Failure> {
        let power = match message.power() {
            v1::ObservedPower::Absent => ObservedPower::Absent,
            v1::ObservedPower::Off => ObservedPower::Off,
            v1::ObservedPower::Running => ObservedPower::Running,
            v1::ObservedPower::Paused => ObservedPower::Paused,
            v1::ObservedPower::Failed => ObservedPower::Failed,
            v1::ObservedPower::Unspecified => return Err(Failure::field("power", "the observed power is missing")),
        };
        let confirmed_ipv4 = optional(message.confirmed_ipv4, |text| {
            text.parse().map_err(|_| Failure::field("confirmed_ipv4", "use an IPv4 address"))
        })?;
        let rdp_certificate_sha256 = if message.rdp_certificate_sha256.is_empty() {
            None
        } else {
            Some(id::decode_sha256(&message.rdp_certificate_sha256, "rdp_certificate_sha256")?)
        };
        Ok(Self {
            instance_id: id::decode(&message.instance_id, "instance_id")?,
            order_id: id::decode(&message.order_id, "order_id")?,
            pair: Pair { generation: Generation(message.generation), fence: Fence(message.fence) },
            power,
            guest_agent: message.guest_agent,
            confirmed_ipv4,
            rdp_certificate_sha256,
            started_at: time::decode_option(message.started_at_us, "started_at_us")?,
            vcpu: Vcpu(message.vcpu),
            memory: MiB(message.memory_mib),
            disk: Bytes(message.disk_bytes),
            gpus: message.gpus,
        })
    }
}
