//! The proof as a whole: one deadline, one verdict.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt as _;
use nemordp_types::template::RdpSecurity;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::negotiation::{self, Answer};
use crate::stage::{Progress, Stage};
use crate::target::{Credential, Target};
use crate::verdict::Verdict;
use crate::{nla, session, tls};

/// Nobody listens. Made once: each one more has every place that logs ask all listeners anew.
static SILENCE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// Logs in once with the credential and says what came of it, at the latest when the deadline has passed.
///
/// In TLS mode an accepted login leaves a session in the guest that runs [`PROOF_SHELL`](crate::PROOF_SHELL), and takes
/// over a session of this user that is open: never prove after hand-over, and end the proof's session before it.
/// Twenty seconds are a fit deadline, sixty for emulated or overloaded hosts.
pub async fn prove(target: &Target, credential: &Credential, deadline: Duration) -> Verdict {
    let mut progress = Progress::default();
    // The libraries beneath log what they send; nothing of that may reach a log, whatever its level.
    let run = Box::pin(run(target, credential, &mut progress)).with_subscriber(SILENCE.clone());
    // They also assert on what a peer may send: a hostile server costs one verdict, not the task.
    let outcome = timeout(deadline, AssertUnwindSafe(run).catch_unwind()).await;
    let stage = progress.stage();
    let verdict = match outcome {
        Ok(Ok(Ok(verdict) | Err(verdict))) => verdict,
        Ok(Err(_panic)) => Verdict::NotRdp { stage, detail: "its bytes break the RDP library".to_owned() },
        Err(_elapsed) if stage == Stage::Start => {
            Verdict::NoAnswer { detail: format!("no connection within {} ms", deadline.as_millis()) }
        }
        Err(_elapsed) => Verdict::TimedOut { stage },
    };
    tracing::debug!(address = %target.address, %stage, %verdict, "login proof");
    verdict
}

/// Both sides of the result are verdicts; the error side only ends the run early.
async fn run(target: &Target, credential: &Credential, progress: &mut Progress) -> Result<Verdict, Verdict> {
    let unreachable = |error: std::io::Error| Verdict::NoAnswer { detail: error.to_string() };
    let mut tcp = TcpStream::connect(target.address).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let local = tcp.local_addr().map_err(unreachable)?;
    progress.reach(Stage::Connected);

    let requested = negotiation::requested(target.security);
    let confirm =
        negotiation::exchange(&mut tcp, requested).await.map_err(|error| error.into_verdict(Stage::Connected))?;
    let require_authorization = target.require_authorization && target.security == RdpSecurity::Nla;
    let selected = match negotiation::decide(&confirm, requested, require_authorization) {
        Answer::Selected(selected) => selected,
        Answer::Refused(cause) => return Err(Verdict::NegotiationRefused { cause }),
        Answer::Foreign(detail) => return Err(Verdict::NotRdp { stage: Stage::Connected, detail }),
    };
    progress.reach(Stage::Negotiated);

    let (mut stream, server_key) = tls::secure(tcp, target.address, target.certificate).await?;
    progress.reach(Stage::Secured);
    match target.security {
        RdpSecurity::Nla => nla::prove(&mut stream, target, credential, selected, server_key, progress).await,
        RdpSecurity::Tls => session::prove(&mut stream, local, &confirm, credential, progress).await,
    }
}
