//! NLA: CredSSP over NTLM (MS-CSSP 3.1.5). The server's `pubKeyAuth` is the proof: its key comes from the password's hash.
//!
//! Nothing comes after it: no MCS, no session, no desktop, so a proof leaves one network logon in the guest's log.

use ironrdp_connector::sspi::credssp::{ClientMode, ClientState, CredSspClient, CredSspMode, TsRequest};
use ironrdp_connector::sspi::ntlm::NtlmConfig;
use ironrdp_connector::sspi::{AuthIdentity, Username};
use ironrdp_pdu::nego::SecurityProtocol;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::frame::{FrameError, read_ts_request};
use crate::stage::{Progress, Stage};
use crate::target::{Credential, Target};
use crate::verdict::{AccountCause, Evidence, NtStatus, Verdict};

/// An NTLM signature; a `pubKeyAuth` that is shorter cannot be one.
pub(crate) const SIGNATURE_BYTES: usize = 16;

/// Runs CredSSP on a secured stream.
pub(crate) async fn prove(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &Target,
    credential: &Credential,
    selected: SecurityProtocol,
    server_key: Vec<u8>,
    progress: &mut Progress,
) -> Result<Verdict, Verdict> {
    let mut client = client(target, credential, server_key)?;
    let mut request = TsRequest::default();
    loop {
        let state = client.process(request).resolve_to_result().map_err(|error| foreign(progress, error))?;
        match state {
            ClientState::ReplyNeeded(reply) => {
                let authenticates = reply.pub_key_auth.is_some();
                send(stream, &reply, progress).await?;
                if authenticates {
                    progress.reach(Stage::CredentialSent);
                }
            }
            // Only given out after the server's pubKeyAuth was decrypted and compared.
            ClientState::FinalMessage(reply) => {
                progress.reach(Stage::PasswordProven);
                if selected != SecurityProtocol::HYBRID_EX {
                    // The password itself is delegated in this message; without an answer to wait for it stays here.
                    return Ok(Verdict::Accepted { evidence: Evidence::PasswordProven });
                }
                send(stream, &reply, progress).await?;
                let word = stream.read_u32_le().await.map_err(|error| broken(error.into(), progress))?;
                return Ok(authorization(word));
            }
        }
        let bytes = read_ts_request(stream).await.map_err(|error| broken(error, progress))?;
        let answer = TsRequest::from_buffer(&bytes).map_err(|error| foreign(progress, error))?;
        if let Some(status) = answer.error_code.filter(|status| status.0 != 0) {
            return Ok(refusal(NtStatus(status.0), progress.stage()));
        }
        if answer.pub_key_auth.as_ref().is_some_and(|key| key.len() < SIGNATURE_BYTES) {
            return Err(foreign(progress, "a pubKeyAuth shorter than its signature"));
        }
        progress.reach(Stage::Challenged);
        request = answer;
    }
}

fn client(target: &Target, credential: &Credential, server_key: Vec<u8>) -> Result<CredSspClient, Verdict> {
    let here = |error: String| Verdict::Broken { detail: format!("CredSSP: {error}") };
    let username = Username::new(credential.login_name.as_str(), None).map_err(|error| here(error.to_string()))?;
    let password = credential.password.expose_secret().to_owned().into();
    CredSspClient::new(
        server_key,
        AuthIdentity { username, password }.into(),
        CredSspMode::WithCredentials,
        ClientMode::Ntlm(NtlmConfig::default()),
        format!("TERMSRV/{}", target.address.ip()),
    )
    .map_err(|error| here(error.to_string()))
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), request: &TsRequest, progress: &Progress) -> Result<(), Verdict> {
    let mut bytes = Vec::new();
    request.encode_ts_request(&mut bytes).map_err(|error| Verdict::Broken { detail: format!("CredSSP: {error}") })?;
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| broken(error.into(), progress))
}

fn broken(error: FrameError, progress: &Progress) -> Verdict {
    error.into_verdict(progress.stage())
}

fn foreign(progress: &Progress, error: impl std::fmt::Display) -> Verdict {
    Verdict::NotRdp { stage: progress.stage(), detail: format!("CredSSP: {error}") }
}

// === decisions ===

/// A status code instead of an answer.
fn refusal(status: NtStatus, stage: Stage) -> Verdict {
    let of_the_password = matches!(status, NtStatus::LOGON_FAILURE | NtStatus::WRONG_PASSWORD | NtStatus::NO_SUCH_USER);
    // Before AUTHENTICATE the server knows neither name nor password, whatever code it uses.
    if of_the_password && stage >= Stage::CredentialSent {
        Verdict::WrongPassword
    } else {
        Verdict::AccountState { cause: AccountCause::Status(status) }
    }
}

/// Early user authorization result (MS-RDPBCGR 2.2.10.2): 0 may log on, 5 may not; nothing else is defined.
fn authorization(word: u32) -> Verdict {
    match word {
        0 => Verdict::Accepted { evidence: Evidence::LogonAuthorized },
        denied => Verdict::AccountState { cause: AccountCause::NotAuthorized(denied) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_authorizes() {
        assert!(authorization(0).is_accepted());
        for word in [1, 5, 0xffff_ffff] {
            assert_eq!(authorization(word), Verdict::AccountState { cause: AccountCause::NotAuthorized(word) });
        }
    }

    #[test]
    fn three_codes_speak_of_the_password_and_only_after_it_was_used() {
        for code in [0xc000_006d, 0xc000_006a, 0xc000_0064] {
            assert_eq!(refusal(NtStatus(code), Stage::CredentialSent), Verdict::WrongPassword);
            assert!(matches!(refusal(NtStatus(code), Stage::Secured), Verdict::AccountState { .. }));
        }
        for code in [0xc000_0234, 0xc000_0072, 0x8009_030c] {
            let cause = AccountCause::Status(NtStatus(code));
            assert_eq!(refusal(NtStatus(code), Stage::CredentialSent), Verdict::AccountState { cause });
        }
    }
}
