//! Nodes as the operator sees them, and the tickets that let new ones in.

use std::time::Duration;

use nemordp_model::{Node, Overcommit, Ticket};
use nemordp_store::{Idempotency, NewTicket, Once, Page, Paged};
use nemordp_types::node::NodePolicy;
use nemordp_types::{Failure, NodeId, Reason, RegionName, TicketId};
use nemordp_wire::ticket::EnrollmentTicket;
use secrecy::SecretString;

use super::App;

impl App {
    /// A node.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn node(&self, id: NodeId) -> Result<Node, Failure> {
        Ok(self.store.node_fetch(id).await?)
    }

    /// Nodes, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn nodes(&self, page: Page<NodeId>) -> Result<Paged<Node, NodeId>, Failure> {
        Ok(self.store.node_list(page).await?)
    }

    /// Lets a node take new instances, or no more.
    ///
    /// # Errors
    /// `not_found`; `conflict` for a decommissioned node.
    pub async fn node_policy(
        &self,
        id: NodeId,
        policy: NodePolicy,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>, Failure> {
        Ok(self.store.node_set_policy(id, policy, intention).await?)
    }

    /// Believes an operator that a node which is lost is off, so that what it held may be built elsewhere.
    ///
    /// # Errors
    /// `not_found`; `conflict` while the node speaks, or spoke a moment ago.
    pub async fn node_fence(
        &self,
        id: NodeId,
        confirmed_off: bool,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>, Failure> {
        if !confirmed_off {
            return Err(Failure::field(
                "confirmed_off",
                "make sure that the machine is off and stays off, and say so with true: its instances would run twice",
            ));
        }
        let once = self.store.node_fence(id, intention).await?;
        self.work.poke();
        tracing::warn!(node_id = %id, "fenced: an operator states that it is off");
        Ok(once)
    }

    /// Lets a fenced node work again; what was moved away from it stays withdrawn.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn node_unfence(
        &self,
        id: NodeId,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>, Failure> {
        let once = self.store.node_unfence(id, intention).await?;
        tracing::warn!(node_id = %id, "unfenced: its next heartbeat makes it available");
        Ok(once)
    }

    /// Refuses a node's certificate from now on and lets it take no new instances. It comes back with a ticket that is
    /// bound to its id.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn node_revoke(
        &self,
        id: NodeId,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>, Failure> {
        let node = self.store.node_fetch(id).await?;
        // First the certificate: a repetition after a crash in between finds it revoked already, which is no error.
        self.store.certificate_revoke(&node.certificate_serial).await?;
        self.revocations_refresh().await?;
        let policy = match node.policy {
            NodePolicy::Active | NodePolicy::Cordoned => NodePolicy::Cordoned,
            NodePolicy::Draining => NodePolicy::Draining,
            NodePolicy::Decommissioned => NodePolicy::Decommissioned,
        };
        let once = self.store.node_set_policy(id, policy, intention).await?;
        tracing::warn!(node_id = %id, "certificate revoked");
        Ok(once)
    }

    /// Puts the store's revocation list into force in this process.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn revocations_refresh(&self) -> Result<(), Failure> {
        let list = self.store.revocation_list().await?;
        self.pki.revocations().replace(list.number, list.serials);
        Ok(())
    }

    /// Makes a ticket. Its text is good only when the answer says that it was done now.
    ///
    /// # Errors
    /// `not_found` when the node that it is bound to does not exist; `unknown_region` for a bound node of another region.
    pub async fn ticket_create(
        &self,
        region: RegionName,
        overcommit: Option<Overcommit>,
        bound_node_id: Option<NodeId>,
        lifetime_minutes: Option<u32>,
        intention: Option<&Idempotency<'_, Ticket>>,
    ) -> Result<(Once<Ticket>, SecretString), Failure> {
        let minutes = lifetime_minutes.unwrap_or(self.config.nodes.ticket_minutes);
        if !(1..=10_080).contains(&minutes) {
            return Err(Failure::field("lifetime_minutes", "use 1 to 10080 minutes"));
        }
        let overcommit = overcommit.unwrap_or(self.config.overcommit).check().map_err(|f| f.within("overcommit"))?;
        if let Some(id) = bound_node_id {
            let node = self.store.node_fetch(id).await.map_err(|error| Failure::from(error).with_field("node_id"))?;
            if node.region != region {
                return Err(Failure::new(
                    Reason::UnknownRegion,
                    format!("node {id} stands in {}: name that region", node.region),
                )
                .with_field("region"));
            }
        }
        let ticket = EnrollmentTicket::new(self.entropy.as_ref(), self.pki.authority().key_sha256());
        let lifetime = Duration::from_secs(u64::from(minutes) * 60);
        let new = NewTicket {
            id: TicketId::new(self.clock.as_ref(), self.entropy.as_ref()),
            secret_sha256: ticket.secret_sha256(),
            region,
            overcommit,
            bound_node_id,
            expires_at: self.clock.now().checked_add(lifetime).map_err(Failure::internal)?,
        };
        Ok((self.store.ticket_create(&new, intention).await?, ticket.to_text()))
    }

    /// Tickets, used and expired ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tickets(&self, page: Page<TicketId>) -> Result<Paged<Ticket, TicketId>, Failure> {
        Ok(self.store.ticket_list(page).await?)
    }
}
