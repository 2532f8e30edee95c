//! Instances as the node sees them.

use nemordp_types::{Failure, Mutation, Reason};
use nemordp_wire::{time, v1};

use super::{AgentService, Watch, instance_id, watch};
use crate::host::Host;

impl<H: Host> AgentService<H> {
    /// Power and start are read anew from the hypervisor; what is inside the guest is what was seen last.
    pub(super) async fn instance_get(&self, bytes: &[u8]) -> Result<v1::InstanceStatus, Failure> {
        let id = instance_id(bytes)?;
        let unknown = || Failure::new(Reason::NotFound, "no such instance on this node").with_field("instance_id");
        let mut status = self.shared.board.status(id).ok_or_else(unknown)?;
        let found = self.shared.host.instance_find(id).await?.ok_or_else(unknown)?;
        if found.started_at != status.started_at {
            (status.guest_agent, status.confirmed_ipv4, status.rdp_certificate_sha256) = (false, None, None);
        }
        (status.power, status.started_at) = (found.power, found.started_at);
        (status.vcpu, status.memory, status.disk) = (found.vcpu, found.memory, found.disk);
        Ok((&status).into())
    }

    pub(super) fn instance_list(&self) -> v1::ListInstancesResponse {
        v1::ListInstancesResponse { instances: self.shared.board.statuses().iter().map(Into::into).collect() }
    }

    pub(super) fn instance_watch(&self) -> Watch<v1::InstanceStatus> {
        watch::instances(&self.shared)
    }

    pub(super) async fn suspension_schedule(
        &self,
        message: v1::ScheduleSuspensionRequest,
    ) -> Result<v1::ScheduleSuspensionResponse, Failure> {
        let mutation = message.mutation.ok_or_else(|| Failure::field("mutation", "say who asks"))?;
        let mutation = Mutation::try_from(mutation).map_err(|failure| failure.within("mutation"))?;
        let at = time::decode_option(message.suspend_at_us, "suspend_at_us")?;
        self.registry.schedule(mutation, at).await?;
        Ok(v1::ScheduleSuspensionResponse {})
    }
}
