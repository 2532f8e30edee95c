//! What has an end: told before it comes, removed when nobody can need it any more.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_store::Store;
use nemordp_types::Failure;

use super::{Outcome, Reconciler};

const DAY: Duration = Duration::from_secs(86_400);
/// A node renews after two thirds of its certificate's life; who has this little left cannot.
const CERTIFICATE_SOON: Duration = Duration::from_secs(5 * 86_400);
/// How long a released port rests before another customer gets it.
const PORT_REST: Duration = Duration::from_secs(30 * 86_400);

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Certificates of nodes.
    Certificates,
    /// Enrollment tickets.
    Tickets,
    /// Credentials links.
    Links,
    /// Answers that are kept for repetitions.
    Answers,
    /// Steps of sagas that are over.
    SagaDetails,
    /// Ports that rest.
    Ports,
}

impl Ending {
    /// Everything that ends.
    pub const ALL: [Self; 6] =
        [Self::Certificates, Self::Tickets, Self::Links, Self::Answers, Self::SagaDetails, Self::Ports];
}

/// Looks after one of them.
#[derive(Debug)]
pub struct Expiry {
    store: Store,
    what: Ending,
}

impl Expiry {
    /// Over this store.
    #[must_use]
    pub const fn new(store: Store, what: Ending) -> Self {
        Self { store, what }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let store = &self.store;
        let outcome = match self.what {
            Ending::Certificates => return self.certificates().await,
            Ending::Tickets => format!("{} forgotten", store.ticket_purge(DAY * 30).await?),
            Ending::Links => format!("{} links open nothing any more", store.secret_link_purge().await?),
            Ending::Answers => format!("{} forgotten", store.idempotency_purge().await?),
            Ending::SagaDetails => format!("details of {} forgotten", store.saga_details_purge(DAY * 90).await?),
            Ending::Ports => {
                let ports = store.port_pool(PORT_REST).await?;
                for (state, count) in [("held", ports.held), ("resting", ports.resting), ("rested", ports.rested)] {
                    metrics::gauge!("nemordp_ports", "state" => state).set(count as f64);
                }
                format!("{} held, {} rest, {} have rested", ports.held, ports.resting, ports.rested)
            }
        };
        Ok(outcome.into())
    }

    async fn certificates(&self) -> Result<Outcome, Failure> {
        let ending = self.store.certificate_ending(CERTIFICATE_SOON).await?;
        let forgotten = self.store.certificate_purge(DAY * 30).await?;
        metrics::gauge!("nemordp_expiring", "kind" => "certificate").set(ending.len() as f64);
        for one in &ending {
            tracing::warn!(node_id = %one.node_id, not_after = %one.not_after, "a node's certificate ends and was not renewed");
        }
        let details = ending
            .iter()
            .map(|one| serde_json::json!({ "node_id": one.node_id, "not_after": one.not_after }))
            .collect::<Vec<_>>();
        let text = format!("{} nodes did not renew in time, {forgotten} old certificates forgotten", ending.len());
        Ok(Outcome { text, details: (!details.is_empty()).then(|| details.into()) })
    }
}

impl Reconciler for Expiry {
    fn name(&self) -> &'static str {
        match self.what {
            Ending::Certificates => "certificate_expiry",
            Ending::Tickets => "ticket_expiry",
            Ending::Links => "credentials_link_expiry",
            Ending::Answers => "idempotency_expiry",
            Ending::SagaDetails => "saga_detail_expiry",
            Ending::Ports => "port_pool",
        }
    }

    fn purpose(&self) -> &'static str {
        match self.what {
            Ending::Certificates => {
                "nodes whose certificate ends soon are told; ended ones are forgotten after 30 days"
            }
            Ending::Tickets => "tickets are forgotten 30 days after their end",
            Ending::Links => "a credentials link is forgotten when it ends",
            Ending::Answers => "answers for repeated requests are forgotten after a day",
            Ending::SagaDetails => "steps of operations are forgotten 90 days after their end",
            Ending::Ports => "how many ports are held, rest, or have rested",
        }
    }

    fn period(&self) -> Duration {
        match self.what {
            Ending::Links => Duration::from_secs(60),
            Ending::Certificates | Ending::Answers | Ending::Ports => Duration::from_secs(600),
            Ending::Tickets | Ending::SagaDetails => Duration::from_secs(3_600),
        }
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
