//! Life signs, and what comes back with them: the revocation list, the wish to renew.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::{Clock, Entropy, Failure, Reason};
use nemordp_wire::{status, v1};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{IdentityStore, Uplink};
use crate::host::Host;
use crate::instance::Shared;

/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// Renewal is tried again after this long.
const RENEW_PAUSE: Duration = Duration::from_secs(60);

/// Sends them until it is told to stop.
#[derive(Debug)]
pub struct Heartbeats<H> {
    /// The way out.
    pub uplink: Arc<Uplink>,
    /// Where certificate and revocation list are kept.
    pub store: IdentityStore,
    /// What is reported.
    pub shared: Arc<Shared<H>>,
    /// Where the control plane reaches the agent.
    pub agent_address: SocketAddr,
    /// The time of the last answer; none before the first one.
    pub answered: watch::Sender<Option<Timestamp>>,
}

impl<H: Host> Heartbeats<H> {
    /// Runs until the token is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut seconds = self.uplink.identity().heartbeat_seconds;
        let mut renewed_at = None;
        loop {
            let beat = tokio::select! {
                () = stop.cancelled() => return,
                beat = self.beat() => beat,
            };
            let renew = match beat {
                Ok(answer) => {
                    seconds = answer.heartbeat_seconds.max(1);
                    self.answered.send_replace(Some(self.shared.clock.now()));
                    answer.renew
                }
                Err(failure) => {
                    self.uplink.forget_channel();
                    tracing::warn!(?failure, "no answer to a heartbeat; instances run on");
                    false
                }
            };
            let now = tokio::time::Instant::now();
            let rested = renewed_at.is_none_or(|at| now.duration_since(at) >= RENEW_PAUSE);
            if (renew || due(&self.uplink, self.shared.clock.as_ref())) && rested {
                renewed_at = Some(now);
                let renewal = tokio::select! {
                    () = stop.cancelled() => return,
                    renewal = self.uplink.renew(&self.store) => renewal,
                };
                if let Err(failure) = renewal {
                    tracing::warn!(?failure, "the certificate was not renewed; tried again in a minute");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(seconds, self.shared.entropy.as_ref())) => {}
            }
        }
    }

    async fn beat(&self) -> Result<v1::HeartbeatResponse, Failure> {
        let late = |_| Failure::new(Reason::Unavailable, "the control plane did not answer in time");
        let answer = tokio::time::timeout(DEADLINE, self.ask()).await.map_err(late)??;
        if let Some(list) = &answer.revocations {
            let serials: Vec<Vec<u8>> = list.serials.iter().map(|serial| serial.to_vec()).collect();
            // In force first: a full disk must not keep a revoked certificate alive.
            self.uplink.revocations().replace(list.number, serials.clone());
            self.store.save_revocations(list.number, &serials)?;
        }
        Ok(answer)
    }

    async fn ask(&self) -> Result<v1::HeartbeatResponse, Failure> {
        let inventory = self.shared.host.inventory().await?;
        let load = nemordp_types::node::NodeLoad { clones: self.shared.clones(), ..self.shared.host.load().await? };
        let request = v1::HeartbeatRequest {
            inventory: Some((&inventory).into()),
            load: Some((&load).into()),
            instances: self.shared.board.statuses().iter().map(Into::into).collect(),
            revocation_number: self.uplink.revocations().number(),
            agent_address: self.agent_address.to_string(),
        };
        let mut control = self.uplink.control().await?;
        control.heartbeat(request).await.map(tonic::Response::into_inner).map_err(|s| status::from_status(&s))
    }
}

/// Whether two thirds of the certificate's life are over.
fn due(uplink: &Uplink, clock: &dyn Clock) -> bool {
    uplink.identity().validity().is_ok_and(|(from, until)| {
        let life = until.as_second().saturating_sub(from.as_second());
        clock.now().as_second() >= from.as_second().saturating_add(life / 3 * 2)
    })
}

/// A tenth more or less, so that a thousand nodes do not come at once.
fn jittered(seconds: u32, entropy: &dyn Entropy) -> Duration {
    let mut random = [0u8; 1];
    entropy.fill(&mut random);
    let tenths = f64::from(random[0]) / 255.0 * 0.2 + 0.9;
    Duration::from_secs(u64::from(seconds)).mul_f64(tenths)
}
