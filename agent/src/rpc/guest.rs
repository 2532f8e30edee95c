//! Questions to a guest.

use nemordp_types::{Failure, Reason};
use nemordp_wire::{time, v1};

use super::{AgentService, GUEST, instance_id, login_name};
use crate::host::Host;

impl<H: Host> AgentService<H> {
    pub(super) async fn account(&self, message: v1::GetAccountRequest) -> Result<v1::GetAccountResponse, Failure> {
        let (id, login) = (instance_id(&message.instance_id)?, login_name(message.login_name)?);
        let since = time::decode(message.since_us, "since_us")?;
        let account = within(self.shared.host.guest_account(id, &login, since)).await?;
        Ok((&account).into())
    }

    pub(super) async fn sessions(&self, message: v1::ListSessionsRequest) -> Result<v1::ListSessionsResponse, Failure> {
        let id = instance_id(&message.instance_id)?;
        let sessions = within(self.shared.host.guest_sessions(id)).await?;
        Ok(v1::ListSessionsResponse { sessions: sessions.iter().map(Into::into).collect() })
    }
}

async fn within<T>(question: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(GUEST, question).await.unwrap_or_else(|_| {
        Err(Failure::new(Reason::GuestAgentTimeout, "the guest agent did not answer in time: look at the guest"))
    })
}
