//! Nodes on the wire.

use nemordp_types::node::{
    Acceleration, EndpointPool, GpuInventory, NodeInventory, NodeLoad, PoolInventory, PrivateSubnet,
};
use nemordp_types::{Bytes, Failure, GpuModel, MiB, StorageClass, Vcpu};

use crate::instance::port;
use crate::template::{decode_digest, encode_digest};
use crate::v1;

impl From<&PoolInventory> for v1::PoolInventory {
    fn from(pool: &PoolInventory) -> Self {
        Self {
            storage_class: pool.storage_class.to_string(),
            physical_bytes: pool.physical.0,
            free_bytes: pool.free.0,
            reserved_bytes: pool.reserved.0,
        }
    }
}

impl TryFrom<v1::PoolInventory> for PoolInventory {
    type Error = Failure;

    fn try_from(message: v1::PoolInventory) -> Result<Self, Failure> {
        Ok(Self {
            storage_class: StorageClass::new(message.storage_class)?,
            physical: Bytes(message.physical_bytes),
            free: Bytes(message.free_bytes),
            reserved: Bytes(message.reserved_bytes),
        })
    }
}

impl From<&GpuInventory> for v1::GpuInventory {
    fn from(gpus: &GpuInventory) -> Self {
        Self { model: gpus.model.to_string(), count: gpus.count }
    }
}

impl TryFrom<v1::GpuInventory> for GpuInventory {
    type Error = Failure;

    fn try_from(message: v1::GpuInventory) -> Result<Self, Failure> {
        let model = GpuModel::new(message.model).map_err(|failure| failure.with_field("gpus.model"))?;
        Ok(Self { model, count: message.count })
    }
}

impl From<&EndpointPool> for v1::EndpointPool {
    fn from(pool: &EndpointPool) -> Self {
        Self { address: pool.address.to_string(), first_port: pool.first_port.into(), last_port: pool.last_port.into() }
    }
}

impl TryFrom<v1::EndpointPool> for EndpointPool {
    type Error = Failure;

    fn try_from(message: v1::EndpointPool) -> Result<Self, Failure> {
        let first_port = port(message.first_port, "first_port")?;
        let last_port = port(message.last_port, "last_port")?;
        if last_port < first_port {
            return Err(Failure::field("last_port", "the last port is not below the first"));
        }
        Ok(Self {
            address: message.address.parse().map_err(|_| Failure::field("address", "use an IPv4 or IPv6 address"))?,
            first_port,
            last_port,
        })
    }
}

impl From<&NodeInventory> for v1::NodeInventory {
    fn from(inventory: &NodeInventory) -> Self {
        let acceleration = match inventory.acceleration {
            Acceleration::Kvm => v1::Acceleration::Kvm,
            Acceleration::Tcg => v1::Acceleration::Tcg,
            Acceleration::Simulated => v1::Acceleration::Simulated,
        };
        Self {
            agent_version: inventory.agent_version.clone(),
            hypervisor: inventory.hypervisor.clone(),
            acceleration: acceleration.into(),
            vcpu: inventory.vcpu.0,
            memory_mib: inventory.memory.0,
            memory_for_instances_mib: inventory.memory_for_instances.0,
            pools: inventory.pools.iter().map(Into::into).collect(),
            private_subnet: Some(v1::PrivateSubnet {
                network: inventory.private_subnet.network.to_string(),
                prefix: inventory.private_subnet.prefix.into(),
            }),
            endpoints: Some((&inventory.endpoints).into()),
            templates: inventory.templates.iter().copied().map(encode_digest).collect(),
            boot_id: inventory.boot_id.clone(),
            gpus: inventory.gpus.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::NodeInventory> for NodeInventory {
    type Error = Failure;

    fn try_from(message: v1::NodeInventory) -> Result<Self, Failure> {
        let acceleration = match message.acceleration() {
            v1::Acceleration::Kvm => Acceleration::Kvm,
            v1::Acceleration::Tcg => Acceleration::Tcg,
            v1::Acceleration::Simulated => Acceleration::Simulated,
            v1::Acceleration::Unspecified => return Err(Failure::field("acceleration", "use kvm, tcg or simulated")),
        };
        let subnet = message.private_subnet.ok_or_else(|| Failure::field("private_subnet", "say where guests live"))?;
        let network = subnet
            .network
            .parse()
            .map_err(|_| Failure::field("private_subnet.network", "use an IPv4 network address"))?;
        let prefix =
            u8::try_from(subnet.prefix).map_err(|_| Failure::field("private_subnet.prefix", "use 16 to 29"))?;
        let endpoints = message.endpoints.ok_or_else(|| Failure::field("endpoints", "say where customers connect"))?;
        let pools: Vec<PoolInventory> = message.pools.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        for (index, pool) in pools.iter().enumerate() {
            if pools[..index].iter().any(|earlier| earlier.storage_class == pool.storage_class) {
                return Err(Failure::field("pools", format!("storage class {} stands twice", pool.storage_class)));
            }
        }
        let gpus: Vec<GpuInventory> = message.gpus.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        for (index, found) in gpus.iter().enumerate() {
            if gpus[..index].iter().any(|earlier| earlier.model == found.model) {
                return Err(Failure::field("gpus", format!("GPU model {} stands twice", found.model)));
            }
        }
        Ok(Self {
            agent_version: message.agent_version,
            hypervisor: message.hypervisor,
            acceleration,
            vcpu: Vcpu(message.vcpu),
            memory: MiB(message.memory_mib),
            memory_for_instances: MiB(message.memory_for_instances_mib),
            pools,
            private_subnet: PrivateSubnet::new(network, prefix)?,
            endpoints: EndpointPool::try_from(endpoints).map_err(|failure| failure.within("endpoints"))?,
            templates: message.templates.iter().map(|digest| decode_digest(digest)).collect::<Result<_, _>>()?,
            boot_id: message.boot_id,
            gpus,
        })
    }
}

impl From<&NodeLoad> for v1::NodeLoad {
    fn from(load: &NodeLoad) -> Self {
        Self {
            cpu_pressure: load.cpu_pressure,
            memory_pressure: load.memory_pressure,
            io_pressure: load.io_pressure,
            clones: load.clones,
            steal: load.steal,
            disk_latency_ms: load.disk_latency_ms,
        }
    }
}

impl TryFrom<v1::NodeLoad> for NodeLoad {
    type Error = Failure;

    fn try_from(message: v1::NodeLoad) -> Result<Self, Failure> {
        let pressures = [
            (message.steal.unwrap_or(0.0), "steal"),
            (message.cpu_pressure, "cpu_pressure"),
            (message.memory_pressure, "memory_pressure"),
            (message.io_pressure, "io_pressure"),
        ];
        for (value, field) in pressures {
            if !(0.0..=100.0).contains(&value) {
                return Err(Failure::field(field, "a pressure is a share of time, 0 to 100 percent"));
            }
        }
        if message.disk_latency_ms.is_some_and(|millis| !millis.is_finite() || millis < 0.0) {
            return Err(Failure::field("disk_latency_ms", "a latency is zero or more milliseconds"));
        }
        Ok(Self {
            cpu_pressure: message.cpu_pressure,
            memory_pressure: message.memory_pressure,
            io_pressure: message.io_pressure,
            clones: message.clones,
            steal: message.steal,
            disk_latency_ms: message.disk_latency_ms,
        })
    }
}
