//! The product's own proof, of a guest that the product did not start.

use std::net::SocketAddr;
use std::time::Duration;

use nemordp_proof::{CertificatePin, Credential, Target, prove, wait_until_ready};
use nemordp_types::template::RdpSecurity;

use super::guest::answer;
use crate::trial::Result;

/// As the control plane waits.
const READINESS: Duration = Duration::from_secs(180);
const LOGIN: Duration = Duration::from_secs(60);
/// As often as the product tries while the server drops the login.
const LOGINS_MAX: usize = 3;

/// Waits for the RDP server and logs in, again when a busy server drops it; anything but an accepted login is an error.
/// `why` asks the guest.
pub(super) fn accepted(
    address: SocketAddr,
    sha256: [u8; 32],
    credential: &Credential,
    why: &dyn Fn() -> String,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| answer("tokio", &error))?;
    let target = Target {
        address,
        security: RdpSecurity::Tls,
        certificate: CertificatePin::from_bytes(sha256),
        require_authorization: false,
    };
    let verdict = runtime.block_on(async {
        wait_until_ready(address, READINESS, |_| ()).await;
        let mut verdict = prove(&target, credential, LOGIN).await;
        for _ in 1..LOGINS_MAX {
            if verdict.is_accepted() {
                break;
            }
            verdict = prove(&target, credential, LOGIN).await;
        }
        verdict
    });
    verdict.into_result().map(drop).map_err(|failure| answer("login proof", &format!("{failure} ({})", why())))
}
