//! A control plane of a few lines with a real CA and real mTLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{
    Bytes, Entropy as _, Failure, InstallationId, LoginName, NodeId, Reason, SeededEntropy, SystemClock, SystemEntropy,
    Template, TemplateDigest, TemplateName,
};
use nemordp_wire::identity::{Identity, Role, spki_sha256};
use nemordp_wire::mtls::{self, ClientAuth, Credentials};
use nemordp_wire::ticket::EnrollmentTicket;
use nemordp_wire::v1::control_server::{Control, ControlServer};
use nemordp_wire::{id, status, v1};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use sha2::Digest as _;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// Our own CA.
pub(crate) struct Ca {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn params(identity: Identity) -> CertificateParams {
        let mut params = CertificateParams::new([identity.dns_name()]).unwrap();
        params.subject_alt_names.push(SanType::URI(identity.uri().try_into().unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    pub(crate) fn issue(&self, role: Role) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(Identity { role, id: Uuid::from_u128(u128::from(role as u8) + 1) });
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Credentials {
            chain: vec![leaf.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            ca: self.certificate.clone(),
        }
    }

    fn sign(&self, csr: &[u8], identity: Identity) -> CertificateDer<'static> {
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).unwrap();
        Self::params(identity).signed_by(&csr.public_key, &self.issuer).unwrap().der().clone()
    }
}

/// How the bytes of a template are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sending {
    Whole,
    /// Every stream breaks with an error after so many bytes.
    BreaksAfter(usize),
    /// The file ends early.
    Truncated,
    /// A byte in the middle is another one.
    Corrupt,
}

pub(crate) struct ControlState {
    pub(crate) ca: Ca,
    pub(crate) ticket: EnrollmentTicket,
    pub(crate) node_id: NodeId,
    pub(crate) installation_id: InstallationId,
    pub(crate) template: Vec<u8>,
    pub(crate) sending: Mutex<Sending>,
    pub(crate) fetches: AtomicU32,
    pub(crate) enrolled: AtomicU32,
    /// The next answers of enroll that are lost after they took effect.
    pub(crate) lose_enrollments: AtomicU32,
    pub(crate) keys: Mutex<Vec<Vec<u8>>>,
    pub(crate) heartbeats: AtomicU64,
    pub(crate) answers_heartbeats: AtomicBool,
    pub(crate) renewals: AtomicU32,
    pub(crate) renew: AtomicBool,
    pub(crate) revocations: Mutex<Option<v1::RevocationList>>,
    pub(crate) last_heartbeat: Mutex<Option<v1::HeartbeatRequest>>,
    pub(crate) withdrawals: Mutex<Vec<v1::Withdrawal>>,
    pub(crate) fenced: AtomicBool,
    pub(crate) clock_skew_us: AtomicI64,
    pub(crate) doubled: AtomicBool,
    /// Every entry of every heartbeat, as it came.
    pub(crate) usage: Mutex<Vec<v1::UsageEntry>>,
    /// Whether the answers carry receipts.
    pub(crate) receipts: AtomicBool,
    /// Every suspension of every answered heartbeat, as it came.
    pub(crate) suspensions: Mutex<Vec<v1::SuspensionReport>>,
}

#[derive(Clone)]
pub(crate) struct ControlPlane {
    pub(crate) state: Arc<ControlState>,
    pub(crate) address: SocketAddr,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let ca = Ca::new();
        let ticket = EnrollmentTicket::new(&SystemEntropy, spki_sha256(&ca.certificate).unwrap());
        let server = mtls::server_config(&ca.issue(Role::ControlPlane), ClientAuth::Optional).unwrap();
        let mut template = vec![0u8; 300_000];
        SeededEntropy::new(5).fill(&mut template);
        let state = Arc::new(ControlState {
            ca,
            ticket,
            node_id: NodeId::new(&SystemClock, &SystemEntropy),
            installation_id: InstallationId::new(&SystemClock, &SystemEntropy),
            template,
            sending: Mutex::new(Sending::Whole),
            fetches: AtomicU32::new(0),
            enrolled: AtomicU32::new(0),
            lose_enrollments: AtomicU32::new(0),
            keys: Mutex::default(),
            heartbeats: AtomicU64::new(0),
            answers_heartbeats: AtomicBool::new(true),
            renewals: AtomicU32::new(0),
            renew: AtomicBool::new(false),
            revocations: Mutex::default(),
            last_heartbeat: Mutex::default(),
            withdrawals: Mutex::default(),
            fenced: AtomicBool::new(false),
            clock_skew_us: AtomicI64::new(0),
            doubled: AtomicBool::new(false),
            usage: Mutex::default(),
            receipts: AtomicBool::new(true),
            suspensions: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = mtls::incoming(listener, Arc::new(ArcSwap::new(server)));
        let service = ControlServer::new(Service(Arc::clone(&state)));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { state, address }
    }

    pub(crate) fn template(&self) -> Template {
        let size = Bytes(self.state.template.len().try_into().unwrap());
        Template {
            name: TemplateName::new("simulated").unwrap(),
            digest: TemplateDigest::from_bytes(sha2::Sha256::digest(&self.state.template).into()),
            file_size: size,
            virtual_size: size,
            rdp_security: RdpSecurity::Nla,
            personalisation: Personalisation::GuestAgent,
            login_name: LoginName::new("user").unwrap(),
        }
    }
}

struct Service(Arc<ControlState>);

#[tonic::async_trait]
impl Control for Service {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let message = request.into_inner();
        let ticket = EnrollmentTicket::parse(&message.ticket).map_err(|f| status::to_status(&f))?;
        if ticket.secret_sha256() != self.0.ticket.secret_sha256() {
            return Err(status::to_status(&Failure::new(Reason::TicketInvalid, "no such ticket")));
        }
        self.0.enrolled.fetch_add(1, Ordering::SeqCst);
        let csr = CertificateSigningRequestParams::from_der(&message.csr_der.as_ref().into()).unwrap();
        self.0.keys.lock().unwrap().push(rcgen::PublicKeyData::der_bytes(&csr.public_key).to_vec());
        let lost =
            self.0.lose_enrollments.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if lost {
            return Err(Status::unavailable("the answer was lost"));
        }
        let identity = Identity { role: Role::Node, id: self.0.node_id.as_uuid() };
        Ok(Response::new(v1::EnrollResponse {
            node_id: id::encode(&self.0.node_id),
            installation_id: id::encode(&self.0.installation_id),
            certificate_chain_der: vec![self.0.ca.sign(&message.csr_der, identity).to_vec().into()],
            ca_der: self.0.ca.certificate.to_vec().into(),
            heartbeat_seconds: 1,
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let identity = mtls::require(&request, Role::Node, &mtls::Revocations::new())?;
        self.0.renewals.fetch_add(1, Ordering::SeqCst);
        self.0.renew.store(false, Ordering::SeqCst);
        Ok(Response::new(v1::RenewResponse {
            certificate_chain_der: vec![self.0.ca.sign(&request.into_inner().csr_der, identity).to_vec().into()],
            ca_der: self.0.ca.certificate.to_vec().into(),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        mtls::require(&request, Role::Node, &mtls::Revocations::new())?;
        self.0.heartbeats.fetch_add(1, Ordering::SeqCst);
        if !self.0.answers_heartbeats.load(Ordering::SeqCst) {
            return Err(Status::unavailable("not now"));
        }
        let message = request.into_inner();
        let revocations = self.0.revocations.lock().unwrap().clone();
        let revocations = revocations.filter(|list| list.number > message.revocation_number);
        self.0.usage.lock().unwrap().extend(message.usage.iter().cloned());
        let receipts = message.usage.iter().filter(|_| self.0.receipts.load(Ordering::SeqCst));
        let usage_receipts = receipts
            .map(|entry| v1::UsageReceipt {
                instance_id: entry.instance_id.clone(),
                meter_id: entry.meter_id.clone(),
                sequence: entry.sequence,
            })
            .collect();
        self.0.suspensions.lock().unwrap().extend(message.suspensions.iter().cloned());
        let heard = message.suspensions.iter().filter(|_| self.0.receipts.load(Ordering::SeqCst));
        let suspension_receipts = heard.map(|report| report.operation_id.clone()).collect();
        *self.0.last_heartbeat.lock().unwrap() = Some(message);
        let renew = self.0.renew.load(Ordering::SeqCst);
        Ok(Response::new(v1::HeartbeatResponse {
            heartbeat_seconds: 1,
            revocations,
            renew,
            withdrawals: self.0.withdrawals.lock().unwrap().clone(),
            fenced: self.0.fenced.load(Ordering::SeqCst),
            clock_skew_us: self.0.clock_skew_us.load(Ordering::SeqCst),
            doubled: self.0.doubled.load(Ordering::SeqCst),
            usage_receipts,
            suspension_receipts,
        }))
    }

    type FetchTemplateStream = Pin<Box<dyn Stream<Item = Result<v1::TemplateChunk, Status>> + Send>>;

    async fn fetch_template(
        &self,
        request: Request<v1::FetchTemplateRequest>,
    ) -> Result<Response<Self::FetchTemplateStream>, Status> {
        mtls::require(&request, Role::Node, &mtls::Revocations::new())?;
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        let offset = usize::try_from(request.into_inner().offset).unwrap();
        let sending = *self.0.sending.lock().unwrap();
        let mut bytes = self.0.template.clone();
        match sending {
            Sending::Whole | Sending::BreaksAfter(_) => {}
            Sending::Truncated => bytes.truncate(200_000),
            Sending::Corrupt => bytes[150_000] ^= 1,
        }
        let rest = bytes.get(offset..).unwrap_or_default().to_vec();
        let mut chunks: Vec<Result<v1::TemplateChunk, Status>> = Vec::new();
        let end = if let Sending::BreaksAfter(n) = sending { n.min(rest.len()) } else { rest.len() };
        for chunk in rest[..end].chunks(64 << 10) {
            chunks.push(Ok(v1::TemplateChunk { data: chunk.to_vec().into() }));
        }
        if end < rest.len() {
            chunks.push(Err(Status::unavailable("the connection broke")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}
