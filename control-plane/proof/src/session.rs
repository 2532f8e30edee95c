//! TLS mode (xrdp): the connection sequence with the password in Client Info, then waiting for the session to speak.

mod evidence;

use std::net::SocketAddr;

use ironrdp_connector::{
    ClientConnector, ClientConnectorState, Config, ConnectorError, ConnectorErrorKind, Credentials, DesktopSize,
    Sequence as _,
};
use ironrdp_core::{WriteBuf, impl_as_any};
use ironrdp_pdu::PduResult;
use ironrdp_pdu::gcc::{ChannelName, ConnectionType, KeyboardType};
use ironrdp_pdu::nego::SecurityProtocol;
use ironrdp_pdu::rdp::capability_sets::{MajorPlatformType, RailSupportLevel};
use ironrdp_pdu::rdp::client_info::{PerformanceFlags, TimezoneInfo};
use ironrdp_svc::{SvcClientProcessor, SvcMessage, SvcProcessor};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroize as _;

use crate::frame::{Frame, read_frame};
use crate::stage::{Progress, Stage};
use crate::target::Credential;
use crate::verdict::Verdict;

/// What the proof's session runs instead of a desktop: it outlives the start of the session, and the session ends with it.
///
/// After the verdict the agent ends [`PROOF_SHELL_PROGRAM`] of this user, so that the customer finds no session.
pub const PROOF_SHELL: &str = "sleep 20";

/// Name of the process that [`PROOF_SHELL`] runs.
pub const PROOF_SHELL_PROGRAM: &str = "sleep";

/// Runs the connection sequence on a secured stream and waits for evidence.
///
/// `confirm` is the server's connection confirm, which already was decided on.
pub(crate) async fn prove(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    local: SocketAddr,
    confirm: &[u8],
    credential: &Credential,
    progress: &mut Progress,
) -> Result<Verdict, Verdict> {
    let mut connector = negotiated(local, confirm).map_err(|error| foreign(progress, &error))?;
    let mut output = WriteBuf::new();
    let clipboard = loop {
        let channel = connector.static_channels.channel_ids().next();
        let sends_password = matches!(connector.state, ClientConnectorState::SecureSettingsExchange { .. });
        if sends_password {
            connector.config.credentials = credentials(credential);
        }
        let input = if connector.next_pdu_hint().is_some() {
            let frame = read_frame(stream).await.map_err(|error| error.into_verdict(progress.stage()))?;
            let Frame::Tpkt(frame) = frame else { continue };
            let sign = evidence::read(&frame, channel);
            if let Some(verdict) = evidence::decide(sign, progress.stage()) {
                return Ok(verdict);
            }
            if sign == evidence::Sign::Chatter {
                continue;
            }
            frame
        } else {
            Vec::new()
        };
        output.clear();
        let stepped = connector.step(&input, None, &mut output);
        if sends_password {
            wipe(&mut connector.config.credentials);
        }
        let written = stepped.map_err(|error| foreign(progress, &error))?;
        if written.size().is_some() {
            let sent = write(stream, output.filled()).await;
            if sends_password {
                output.filled_mut().zeroize();
            }
            sent.map_err(|error| crate::frame::FrameError::from(error).into_verdict(progress.stage()))?;
        }
        if sends_password {
            progress.reach(Stage::CredentialSent);
        }
        if let Some(end) = finished(&mut connector, progress) {
            end?;
            break channel;
        }
    };
    progress.reach(Stage::Activated);
    watch(stream, clipboard, progress).await
}

/// Reads until the session speaks, or the server ends the connection.
async fn watch(
    stream: &mut (impl AsyncRead + Unpin),
    clipboard: Option<u16>,
    progress: &Progress,
) -> Result<Verdict, Verdict> {
    loop {
        let frame = read_frame(stream).await.map_err(|error| error.into_verdict(progress.stage()))?;
        let Frame::Tpkt(frame) = frame else { continue };
        if let Some(verdict) = evidence::decide(evidence::read(&frame, clipboard), progress.stage()) {
            return Ok(verdict);
        }
    }
}

/// A connector that stands behind TLS; it does not know the password yet.
fn negotiated(local: SocketAddr, confirm: &[u8]) -> Result<ClientConnector, ConnectorError> {
    let mut connector = ClientConnector::new(config(), local);
    connector.attach_static_channel(Clipboard);
    let mut output = WriteBuf::new();
    // The request went out already; the connector only has to know what it asked for.
    connector.initiate_with_security_protocol(SecurityProtocol::SSL, &mut output)?;
    output.clear();
    connector.step(confirm, None, &mut output)?;
    if connector.should_perform_security_upgrade() {
        connector.step_no_input(&mut output)?;
    }
    Ok(connector)
}

/// Whether the sequence is at its end: connected, or led elsewhere.
fn finished(connector: &mut ClientConnector, progress: &Progress) -> Option<Result<(), Verdict>> {
    use ironrdp_connector::ConnectionOutcome;
    connector.state.take_outcome().map(|outcome| match outcome {
        ConnectionOutcome::Connected(_) => Ok(()),
        ConnectionOutcome::Redirected(_) => {
            Err(Verdict::NotRdp { stage: progress.stage(), detail: "it redirects to another server".to_owned() })
        }
    })
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn foreign(progress: &Progress, error: &ConnectorError) -> Verdict {
    // The server ended the sequence in so many words (licence, error info); that says nothing about the password.
    if matches!(error.kind(), ConnectorErrorKind::Reason(_)) {
        return Verdict::Dropped { stage: progress.stage() };
    }
    Verdict::NotRdp { stage: progress.stage(), detail: format!("{error} ({})", error.kind()) }
}

fn credentials(credential: &Credential) -> Credentials {
    Credentials::UsernamePassword {
        username: credential.login_name.as_str().to_owned(),
        password: credential.password.expose_secret().to_owned(),
    }
}

/// Takes the password out of the connector again; licensing still needs the name.
fn wipe(credentials: &mut Credentials) {
    match credentials {
        Credentials::UsernamePassword { password, .. } => password.zeroize(),
        Credentials::SmartCard { pin, .. } => pin.zeroize(),
    }
}

/// Joins the clipboard channel, only to hear whether the session's own server speaks on it.
#[derive(Debug)]
struct Clipboard;

impl_as_any!(Clipboard);

impl SvcProcessor for Clipboard {
    fn channel_name(&self) -> ChannelName {
        ChannelName::from_static(b"cliprdr\0")
    }

    fn process(&mut self, _payload: &[u8]) -> PduResult<Vec<SvcMessage>> {
        Ok(Vec::new())
    }
}

impl SvcClientProcessor for Clipboard {}

fn config() -> Config {
    Config {
        enable_tls: true,
        enable_credssp: false,
        enable_standard_rdp_security: false,
        credentials: Credentials::UsernamePassword { username: String::new(), password: String::new() },
        domain: None,
        // Without it xrdp shows its login window and ignores the password.
        autologon: true,
        alternate_shell: PROOF_SHELL.to_owned(),
        client_name: "login-proof".to_owned(),
        desktop_size: DesktopSize { width: 1024, height: 768 },
        bitmap: None,
        connection_type: ConnectionType::Lan,
        keyboard_type: KeyboardType::IBM_ENHANCED,
        keyboard_subtype: 0,
        keyboard_functional_keys_count: 12,
        keyboard_layout: 0x409,
        platform: MajorPlatformType::UNIX,
        performance_flags: PerformanceFlags::default(),
        timezone_info: TimezoneInfo::default(),
        monitor_layout: None,
        monitor_extended_layout: None,
        desktop_scale_factor: 0,
        desktop_physical_size: None,
        desktop_orientation: None,
        device_scale_factor: None,
        relative_mouse_input: false,
        client_build: 0,
        ime_file_name: String::new(),
        dig_product_id: String::new(),
        client_dir: String::new(),
        work_dir: String::new(),
        remote_application_mode: false,
        rail_support_level: RailSupportLevel::empty(),
        hardware_id: None,
        request_data: None,
        enable_audio_playback: false,
        enable_audio_capture: false,
        license_cache: None,
        compression_type: None,
        enable_server_pointer: false,
        pointer_software_rendering: true,
        multitransport_flags: None,
        support_dyn_vc_gfx_protocol: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connector_holds_no_password_outside_the_step_that_sends_it() {
        let confirm = [3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 0, 8, 0, 1, 0, 0, 0];
        let mut connector = negotiated("127.0.0.1:1".parse().unwrap(), &confirm).unwrap();
        assert!(matches!(connector.state, ClientConnectorState::BasicSettingsExchangeSendInitial { .. }));
        connector.config.credentials = Credentials::UsernamePassword { username: "u".into(), password: "p4ss".into() };
        wipe(&mut connector.config.credentials);
        assert!(!format!("{:?}", connector.config).contains("p4ss"));
    }

    #[test]
    fn the_proofs_shell_is_one_that_the_agent_finds_by_its_program() {
        assert_eq!(PROOF_SHELL.split(' ').next(), Some(PROOF_SHELL_PROGRAM));
    }
}
