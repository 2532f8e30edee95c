//! Life signs, and what comes back with them: the revocation list, the wish to renew, what may not run here any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nemordp_types::usage::UsageReceipt;
use nemordp_types::{Clock, Entropy, Failure, Generation, InstanceId, OperationId, Reason};
use nemordp_wire::{id, status, time, v1};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{IdentityStore, Uplink};
use crate::host::Host;
use crate::instance::Shared;
use crate::instance::registry::Registry;
use crate::usage::Meters;

/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long a look at the machine's own ports may take.
const PORTS: Duration = Duration::from_secs(5);
/// Renewal is tried again after this long.
const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// How far this machine's clock may be off before the agent complains.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Sends them until it is told to stop.
#[derive(Debug)]
pub struct Heartbeats<H> {
    /// The way out.
    pub uplink: Arc<Uplink>,
    /// Where certificate and revocation list are kept.
    pub store: IdentityStore,
    /// What is reported.
    pub shared: Arc<Shared<H>>,
    /// Who gives up what was moved away.
    pub registry: Arc<Registry<H>>,
    /// What is reported of the instances' use.
    pub meters: Arc<Meters<H>>,
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
        let mut sender = Sender::new(self.shared.entropy.as_ref());
        loop {
            sender.beat += 1;
            let beat = tokio::select! {
                () = stop.cancelled() => return,
                beat = self.beat(&sender) => beat,
            };
            let renew = match beat {
                Ok(answer) => {
                    seconds = answer.heartbeat_seconds.max(1);
                    self.heed(&answer).await;
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

    /// Takes what an answer says of this node. What may not run here is given up before anything may start.
    async fn heed(&self, answer: &v1::HeartbeatResponse) {
        for withdrawal in &answer.withdrawals {
            match id::decode::<InstanceId>(&withdrawal.instance_id, "withdrawals.instance_id") {
                Ok(instance) => self.registry.withdraw(instance, Generation(withdrawal.generation)).await,
                Err(failure) => tracing::error!(?failure, "a withdrawal cannot be read"),
            }
        }
        self.shared.gate.heard(answer.fenced);
        let heard: Result<Vec<OperationId>, Failure> =
            answer.suspension_receipts.iter().map(|bytes| id::decode(bytes, "suspension_receipts")).collect();
        match heard {
            Ok(operations) => self.registry.suspensions_received(&operations).await,
            Err(failure) => tracing::error!(?failure, "a receipt cannot be read"),
        }
        let receipts: Result<Vec<UsageReceipt>, Failure> =
            answer.usage_receipts.iter().map(|receipt| UsageReceipt::try_from(receipt.clone())).collect();
        let forgotten = match receipts {
            Ok(receipts) => self.meters.received(&receipts).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = forgotten {
            tracing::warn!(?failure, "what was received is reported again, under the same numbers");
        }
        let skew = SignedDuration::from_micros(answer.clock_skew_us);
        self.shared.telemetry.control_plane_said(skew, answer.doubled);
        if skew.unsigned_abs() >= CLOCK_TOLERANCE {
            tracing::warn!(
                ahead_seconds = skew.as_secs(),
                "this machine's clock differs from the control plane's: synchronise it (timedatectl), certificates and \
                 suspensions rest on it"
            );
        }
        if answer.doubled {
            tracing::error!(
                "another agent sends heartbeats with this node's certificate: find it, revoke the certificate and enroll \
                 this machine again with a ticket bound to its id"
            );
        }
    }

    async fn beat(&self, sender: &Sender) -> Result<v1::HeartbeatResponse, Failure> {
        let late = |_| Failure::new(Reason::Unavailable, "the control plane did not answer in time");
        let answer = tokio::time::timeout(DEADLINE, self.ask(sender)).await.map_err(late)??;
        if let Some(list) = &answer.revocations {
            let serials: Vec<Vec<u8>> = list.serials.iter().map(|serial| serial.to_vec()).collect();
            // In force first: a full disk must not keep a revoked certificate alive.
            self.uplink.revocations().replace(list.number, serials.clone());
            self.store.save_revocations(list.number, &serials)?;
        }
        Ok(answer)
    }

    async fn ask(&self, sender: &Sender) -> Result<v1::HeartbeatResponse, Failure> {
        let inventory = self.shared.host.inventory().await?;
        let load = nemordp_types::node::NodeLoad { clones: self.shared.clones(), ..self.shared.host.load().await? };
        let request = v1::HeartbeatRequest {
            inventory: Some((&inventory).into()),
            load: Some((&load).into()),
            instances: self.shared.board.statuses().iter().map(Into::into).collect(),
            revocation_number: self.uplink.revocations().number(),
            agent_address: self.agent_address.to_string(),
            session_id: bytes::Bytes::copy_from_slice(&sender.session),
            beat: sender.beat,
            sent_at_us: time::encode(self.shared.clock.now()),
            suspensions: self.shared.board.suspensions().iter().map(Into::into).collect(),
            usage: self.meters.report().await?.iter().map(Into::into).collect(),
            taken_ports: self.taken_ports().await,
            templates: self.shared.templates.list().await?.iter().map(Into::into).collect(),
        };
        let mut control = self.uplink.control().await?;
        control.heartbeat(request).await.map(tonic::Response::into_inner).map_err(|s| status::from_status(&s))
    }
}

impl<H: Host> Heartbeats<H> {
    /// None where the host cannot tell: a life sign does not wait for that.
    async fn taken_ports(&self) -> Vec<u32> {
        match tokio::time::timeout(PORTS, self.shared.host.ports_taken()).await {
            Ok(Ok(ports)) => ports.into_iter().map(u32::from).collect(),
            Ok(Err(failure)) => {
                tracing::warn!(?failure, "not known which ports something else uses");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}

/// Which process of an agent sends, and how often it has: two that send with one certificate are told apart.
struct Sender {
    session: [u8; 16],
    beat: u64,
}

impl Sender {
    fn new(entropy: &dyn Entropy) -> Self {
        let mut session = [0u8; 16];
        entropy.fill(&mut session);
        Self { session, beat: 0 }
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
