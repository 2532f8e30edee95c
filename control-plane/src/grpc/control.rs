//! The service `Control`: decode, call, encode. Who calls is read from the certificate, never from a message.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use nemordp_model::session::AgentSession;
use nemordp_store::{NodeHeartbeat, Sender, Signs, Withdrawal};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeAvailability, NodeInventory, NodeLoad};
use nemordp_types::suspension::SuspensionReport;
use nemordp_types::template::{TemplatePresence, TemplateState};
use nemordp_types::usage::UsageEntry;
use nemordp_types::{Bytes, Failure, NodeAddress, NodeId, TemplateDigest};
use nemordp_wire::identity::Role;
use nemordp_wire::mtls::require;
use nemordp_wire::status::to_status;
use nemordp_wire::{id, v1};
use tokio::io::AsyncSeekExt as _;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::app::{App, Application};
use crate::telemetry::Telemetry;

/// One message of a template's stream.
const CHUNK_BYTES: usize = 256 << 10;
/// A node that shows an old certificate is asked to renew this often at most.
const RENEWAL_PAUSE: Duration = Duration::from_secs(86_400);

/// The service.
#[derive(Debug)]
pub(super) struct Control {
    app: Arc<App>,
    telemetry: Telemetry,
    shutdown: CancellationToken,
    /// When each node was last given a new certificate by this process.
    renewed: Mutex<HashMap<NodeId, Instant>>,
}

impl Control {
    pub(super) fn new(app: Arc<App>, telemetry: Telemetry, shutdown: CancellationToken) -> Self {
        Self { app, telemetry, shutdown, renewed: Mutex::default() }
    }

    fn node<T>(&self, request: &Request<T>) -> Result<(NodeId, Vec<u8>), Status> {
        let identity = require(request, Role::Node, self.app.pki.revocations())?;
        let serial = nemordp_wire::mtls::peer(request).and_then(|peer| peer.serial.clone()).unwrap_or_default();
        Ok((NodeId::from_uuid(identity.id), serial))
    }

    fn answer<T>(&self, call: &'static str, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let code = result.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        self.telemetry.grpc(call, code);
        if let Err(status) = &result {
            tracing::info!(call, code = ?status.code(), message = status.message(), "call of an agent refused");
        }
        result.map(Response::new)
    }

    fn heartbeat_seconds(&self) -> u32 {
        self.app.config.nodes.heartbeat_seconds
    }

    fn ca_der(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(self.app.pki.authority().certificate())
    }

    async fn enrolled(&self, request: v1::EnrollRequest) -> Result<v1::EnrollResponse, Failure> {
        let inventory = request.inventory.ok_or_else(|| Failure::field("inventory", "must be present"))?;
        let application = Application {
            ticket: request.ticket.into(),
            csr_der: request.csr_der.to_vec(),
            node_name: request.node_name,
            agent_address: address(&request.agent_address)?,
            inventory: NodeInventory::try_from(inventory).map_err(|failure| failure.within("inventory"))?,
        };
        let admission = self.app.enroll(application).await?;
        Ok(v1::EnrollResponse {
            node_id: id::encode(&admission.node_id),
            installation_id: id::encode(&self.app.installation_id),
            certificate_chain_der: vec![admission.certificate.to_vec().into()],
            ca_der: self.ca_der(),
            heartbeat_seconds: self.heartbeat_seconds(),
        })
    }

    async fn beaten(
        &self,
        node_id: NodeId,
        serial: &[u8],
        request: v1::HeartbeatRequest,
    ) -> Result<v1::HeartbeatResponse, Failure> {
        let missing = |field: &str| Failure::field(field, "must be present");
        let signs = signs(&request)?;
        let suspensions = request.suspensions.iter().map(|report| SuspensionReport::try_from(report.clone()));
        let suspensions =
            suspensions.collect::<Result<Vec<_>, _>>().map_err(|failure| failure.within("suspensions"))?;
        let usage =
            request.usage.iter().map(|entry| UsageEntry::try_from(entry.clone())).collect::<Result<Vec<_>, _>>();
        let usage = usage.map_err(|failure| failure.within("usage"))?;
        let inventory = request.inventory.ok_or_else(|| missing("inventory"))?;
        let instances = request.instances.into_iter().map(InstanceStatus::try_from).collect::<Result<_, _>>();
        let beat = NodeHeartbeat {
            agent_address: address(&request.agent_address)?,
            inventory: NodeInventory::try_from(inventory).map_err(|failure| failure.within("inventory"))?,
            load: match request.load {
                Some(load) => NodeLoad::try_from(load).map_err(|failure| failure.within("load"))?,
                None => NodeLoad::default(),
            },
            instances: instances.map_err(|failure: Failure| failure.within("instances"))?,
            signs,
        };
        let outcome = self.app.heartbeat(node_id, beat).await?;
        let suspended = self.app.suspensions_happened(node_id, &suspensions).await?;
        let receipts = self.app.store.usage_report(node_id, &usage).await?;
        let number = self.app.pki.revocations().number();
        let revocations = if request.revocation_number < number {
            let list = self.app.store.revocation_list().await?;
            let serials = list.serials.into_iter().map(bytes::Bytes::from).collect();
            Some(v1::RevocationList { number: list.number, serials })
        } else {
            None
        };
        let renew = self.answer_was_lost(node_id, serial).await?;
        let skew_us = outcome.clock_skew.map_or(0, |skew| i64::try_from(skew.as_micros()).unwrap_or(i64::MAX));
        Ok(v1::HeartbeatResponse {
            heartbeat_seconds: self.heartbeat_seconds(),
            revocations,
            renew,
            withdrawals: outcome.withdrawn.iter().map(withdrawal).collect(),
            fenced: outcome.availability == NodeAvailability::Fenced,
            clock_skew_us: skew_us,
            doubled: outcome.doubled,
            suspension_receipts: suspended.iter().map(id::encode).collect(),
            usage_receipts: receipts.iter().map(Into::into).collect(),
        })
    }

    /// Whether the node shows an older certificate than the store has for it: the answer to its renewal was lost. Its own
    /// clock tells it when the present one is due. A connection outlives a renewal, hence the pause.
    async fn answer_was_lost(&self, node_id: NodeId, serial: &[u8]) -> Result<bool, Failure> {
        if self.app.node(node_id).await?.certificate_serial == serial {
            return Ok(false);
        }
        let renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(renewed.get(&node_id).is_none_or(|at| at.elapsed() >= RENEWAL_PAUSE))
    }
}

/// What an agent says of itself; an older one says less.
fn signs(request: &v1::HeartbeatRequest) -> Result<Signs, Failure> {
    let session = AgentSession::from_wire(&request.session_id)?;
    let mut templates = request
        .templates
        .iter()
        .map(|presence| TemplatePresence::try_from(presence.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|failure| failure.within("templates"))?;
    if templates.is_empty()
        && let Some(inventory) = &request.inventory
    {
        let ready = inventory.templates.iter().map(|digest| {
            let digest = nemordp_wire::template::decode_digest(digest).map_err(|f| f.within("inventory.templates"))?;
            Ok(TemplatePresence { digest, state: TemplateState::Ready, fetched: Bytes::ZERO })
        });
        templates = ready.collect::<Result<_, Failure>>()?;
    }
    let sent_at = match request.sent_at_us {
        0 => None,
        sent_at => Some(nemordp_wire::time::decode(sent_at, "sent_at_us")?),
    };
    let port = |port: &u32| u16::try_from(*port).map_err(|_| Failure::field("taken_ports", "use TCP ports"));
    let taken_ports = request.taken_ports.iter().map(port).collect::<Result<_, _>>()?;
    let sender = session.map(|session| Sender { session, beat: request.beat });
    Ok(Signs { sender, sent_at, templates, taken_ports })
}

fn withdrawal(withdrawal: &Withdrawal) -> v1::Withdrawal {
    v1::Withdrawal { instance_id: id::encode(&withdrawal.instance_id), generation: withdrawal.generation.0 }
}

fn address(text: &str) -> Result<NodeAddress, Failure> {
    text.parse()
        .map(NodeAddress)
        .map_err(|_| Failure::field("agent_address", "use address and port, like 203.0.113.9:7444"))
}

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::TemplateChunk, Status>> + Send>>;

#[tonic::async_trait]
impl v1::control_server::Control for Control {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let result = self.enrolled(request.into_inner()).await;
        self.answer("enroll", result.map_err(|failure| to_status(&failure)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let result = async {
            let (node_id, _) = self.node(&request)?;
            let certificate = self.app.renew(node_id, &request.get_ref().csr_der).await.map_err(|f| to_status(&f))?;
            self.renewed.lock().unwrap_or_else(PoisonError::into_inner).insert(node_id, Instant::now());
            let certificate_chain_der = vec![certificate.to_vec().into()];
            Ok(v1::RenewResponse { certificate_chain_der, ca_der: self.ca_der() })
        };
        let result = result.await;
        self.answer("renew", result)
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let result = async {
            let (node_id, serial) = self.node(&request)?;
            self.beaten(node_id, &serial, request.into_inner()).await.map_err(|failure| to_status(&failure))
        };
        let result = result.await;
        self.answer("heartbeat", result)
    }

    type FetchTemplateStream = Chunks;

    async fn fetch_template(&self, request: Request<v1::FetchTemplateRequest>) -> Result<Response<Chunks>, Status> {
        let result = async {
            let (node_id, _) = self.node(&request)?;
            let asked = request.get_ref();
            self.chunks(node_id, asked).await.map_err(|failure| to_status(&failure))
        };
        let result = result.await;
        self.answer("fetch_template", result)
    }
}

impl Control {
    async fn chunks(&self, node_id: NodeId, asked: &v1::FetchTemplateRequest) -> Result<Chunks, Failure> {
        let digest = TemplateDigest::from_bytes(id::decode_sha256(&asked.digest, "digest")?);
        let mut file = self.app.template_file(digest).await?;
        let length = file.metadata().await.map_err(Failure::internal)?.len();
        if asked.offset > length {
            return Err(Failure::field("offset", format!("the file has {length} bytes")));
        }
        file.seek(std::io::SeekFrom::Start(asked.offset)).await.map_err(Failure::internal)?;
        tracing::info!(%node_id, %digest, offset = asked.offset, "a node fetches a template");
        let shutdown = self.shutdown.clone().cancelled_owned();
        let chunks = ReaderStream::with_capacity(file, CHUNK_BYTES).take_until(shutdown).map(|chunk| match chunk {
            Ok(data) => Ok(v1::TemplateChunk { data }),
            Err(error) => Err(to_status(&Failure::internal(format!("template file: {error}")))),
        });
        Ok(Box::pin(chunks))
    }
}
