//! X.224 connection request and confirm (MS-RDPBCGR 2.2.1.1, 2.2.1.2): which security mode both sides will use.

use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::nego::{ConnectionConfirm, ConnectionRequest, RequestFlags, SecurityProtocol};
use ironrdp_pdu::x224::X224;
use nemordp_types::template::RdpSecurity;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::frame::{FrameError, read_tpkt};
use crate::verdict::NegotiationCause;

/// What a confirm says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server will use exactly this.
    Selected(SecurityProtocol),
    /// It will not do what was asked for.
    Refused(NegotiationCause),
    /// Not a connection confirm.
    Foreign(String),
}

/// What is asked for in the template's mode, and nothing else: no server can talk the proof into a weaker one.
pub(crate) const fn requested(security: RdpSecurity) -> SecurityProtocol {
    match security {
        RdpSecurity::Nla => SecurityProtocol::HYBRID.union(SecurityProtocol::HYBRID_EX),
        RdpSecurity::Tls => SecurityProtocol::SSL,
    }
}

/// Sends the request and reads one unit in answer.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocol: SecurityProtocol,
) -> Result<Vec<u8>, FrameError> {
    let request = ConnectionRequest { nego_data: None, flags: RequestFlags::empty(), protocol, correlation_info: None };
    let bytes = encode_vec(&X224(request)).map_err(|error| FrameError::Foreign(error.to_string()))?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    read_tpkt(stream).await
}

/// Reads a confirm against what was asked for.
pub(crate) fn decide(confirm: &[u8], requested: SecurityProtocol, require_authorization: bool) -> Answer {
    match decode::<X224<ConnectionConfirm>>(confirm) {
        Ok(X224(ConnectionConfirm::Failure { code })) => Answer::Refused(NegotiationCause::Code(u32::from(code))),
        Ok(X224(ConnectionConfirm::Response { protocol, .. })) => {
            let asked = protocol.bits().count_ones() == 1 && requested.contains(protocol);
            if !asked {
                Answer::Refused(NegotiationCause::Selected(protocol.bits()))
            } else if require_authorization && protocol == SecurityProtocol::HYBRID {
                Answer::Refused(NegotiationCause::NoAuthorization)
            } else {
                Answer::Selected(protocol)
            }
        }
        Err(error) => Answer::Foreign(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connection confirm with `RDP_NEG_RSP` (2) or `RDP_NEG_FAILURE` (3).
    fn confirm(kind: u8, value: u8) -> Vec<u8> {
        vec![3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, kind, 0, 8, 0, value, 0, 0, 0]
    }

    #[test]
    fn no_server_can_change_the_mode() {
        let nla = requested(RdpSecurity::Nla);
        let tls = requested(RdpSecurity::Tls);
        for (requested, selected) in [(nla, 1), (nla, 0), (nla, 4), (nla, 3), (tls, 2), (tls, 8), (tls, 0), (tls, 16)] {
            assert_eq!(
                decide(&confirm(2, selected), requested, false),
                Answer::Refused(NegotiationCause::Selected(u32::from(selected)))
            );
        }
        assert_eq!(decide(&confirm(2, 8), nla, true), Answer::Selected(SecurityProtocol::HYBRID_EX));
        assert_eq!(decide(&confirm(2, 2), nla, false), Answer::Selected(SecurityProtocol::HYBRID));
        assert_eq!(decide(&confirm(2, 1), tls, true), Answer::Selected(SecurityProtocol::SSL));
    }

    #[test]
    fn hybrid_without_authorization_is_refused_where_it_is_demanded() {
        let answer = decide(&confirm(2, 2), requested(RdpSecurity::Nla), true);
        assert_eq!(answer, Answer::Refused(NegotiationCause::NoAuthorization));
    }

    #[test]
    fn a_confirm_without_negotiation_is_standard_security_and_a_failure_keeps_its_code() {
        let tls = requested(RdpSecurity::Tls);
        let bare = [3, 0, 0, 11, 6, 0xd0, 0, 0, 0x12, 0x34, 0];
        assert_eq!(decide(&bare, tls, false), Answer::Refused(NegotiationCause::Selected(0)));
        assert_eq!(decide(&confirm(3, 5), tls, false), Answer::Refused(NegotiationCause::Code(5)));
        assert!(matches!(decide(&confirm(9, 1), tls, false), Answer::Foreign(_)));
        assert!(matches!(decide(&[3, 0, 0, 7, 2, 0xf0, 0x80], tls, false), Answer::Foreign(_)));
    }
}
