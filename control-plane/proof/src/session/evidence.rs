//! What one unit of an established TLS-mode connection says about the login.
//!
//! xrdp completes the connection sequence, paints and sends log windows with any password. What it cannot do is speak on
//! the clipboard channel: that is fed by the session's channel server, a process of the user, which xrdp's session manager
//! starts after PAM accepted both password and account.

use ironrdp_core::decode;
use ironrdp_pdu::mcs::McsMessage;
use ironrdp_pdu::x224::X224;

use crate::stage::Stage;
use crate::verdict::{Evidence, Verdict};

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// The clipboard channel's server began to speak.
    SessionSpoke,
    /// The server ends the connection (MCS disconnect provider ultimatum).
    Ultimatum,
    /// Something else on the clipboard channel: proves nothing, and is no part of the connection sequence.
    Chatter,
    /// Anything else; it proves nothing.
    Nothing,
}

/// Chunk that begins a channel message (MS-RDPBCGR 2.2.6.1.1).
const CHANNEL_FLAG_FIRST: u32 = 1;
/// Server's first words on the clipboard channel (MS-RDPECLIP 2.2.1).
const CB_MONITOR_READY: u16 = 1;
const CB_CLIP_CAPS: u16 = 7;

/// Reads a unit with its TPKT header; `clipboard` is the id of the channel, once the server gave it.
pub(super) fn read(frame: &[u8], clipboard: Option<u16>) -> Sign {
    match decode::<X224<McsMessage<'_>>>(frame) {
        Ok(X224(McsMessage::SendDataIndication(data))) if Some(data.channel_id) == clipboard => {
            channel_message(&data.user_data)
        }
        Ok(X224(McsMessage::DisconnectProviderUltimatum(_))) => Sign::Ultimatum,
        Ok(X224(
            McsMessage::SendDataIndication(_)
            | McsMessage::ErectDomainRequest(_)
            | McsMessage::AttachUserRequest(_)
            | McsMessage::AttachUserConfirm(_)
            | McsMessage::ChannelJoinRequest(_)
            | McsMessage::ChannelJoinConfirm(_)
            | McsMessage::SendDataRequest(_),
        ))
        | Err(_) => Sign::Nothing,
    }
}

/// Channel header (length, flags), then `CLIPRDR_HEADER` (type, flags, length), all little-endian.
fn channel_message(data: &[u8]) -> Sign {
    let Some((header, message)) = data.split_first_chunk::<8>() else { return Sign::Chatter };
    let [_, _, _, _, a, b, c, d] = *header;
    let first = u32::from_le_bytes([a, b, c, d]) & CHANNEL_FLAG_FIRST != 0;
    match message.first_chunk::<8>() {
        Some([low, high, ..])
            if first && matches!(u16::from_le_bytes([*low, *high]), CB_MONITOR_READY | CB_CLIP_CAPS) =>
        {
            Sign::SessionSpoke
        }
        Some(_) | None => Sign::Chatter,
    }
}

/// What the sign decides; none when there is more to wait for.
pub(super) fn decide(sign: Sign, stage: Stage) -> Option<Verdict> {
    match sign {
        // Before the credential was sent nobody can have been logged in by it.
        Sign::SessionSpoke if stage >= Stage::CredentialSent => {
            Some(Verdict::Accepted { evidence: Evidence::SessionChannel })
        }
        Sign::Ultimatum => Some(Verdict::Dropped { stage }),
        Sign::SessionSpoke | Sign::Chatter | Sign::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIPBOARD: u16 = 1005;

    /// MCS send data indication (T.125) in TPKT and X.224, as xrdp writes it.
    fn indication(channel: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap() | 0x8000;
        let mut mcs = vec![0x68, 0, 0];
        mcs.extend(channel.to_be_bytes());
        mcs.push(0x70);
        mcs.extend(length.to_be_bytes());
        mcs.extend(data);
        tpkt(&mcs)
    }

    fn tpkt(body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len() + 7).unwrap();
        [&[3, 0][..], &length.to_be_bytes(), &[2, 0xf0, 0x80], body].concat()
    }

    fn message(flags: u8, kind: u16) -> Vec<u8> {
        let mut bytes = vec![24, 0, 0, 0, flags, 0, 0, 0];
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0, 0, 16, 0, 0, 0, 1, 0, 0, 0]);
        bytes
    }

    #[test]
    fn capabilities_or_monitor_ready_on_the_clipboard_channel_prove_the_login() {
        for kind in [CB_CLIP_CAPS, CB_MONITOR_READY] {
            let sign = read(&indication(CLIPBOARD, &message(3, kind)), Some(CLIPBOARD));
            assert_eq!(sign, Sign::SessionSpoke);
            assert!(decide(sign, Stage::Activated).is_some_and(|verdict| verdict.is_accepted()));
        }
    }

    #[test]
    fn nothing_else_proves_it() {
        let caps = message(3, CB_CLIP_CAPS);
        for (case, frame, channel) in [
            ("another channel", indication(1003, &caps), Some(CLIPBOARD)),
            ("no channel yet", indication(CLIPBOARD, &caps), None),
            ("another message", indication(CLIPBOARD, &message(3, 2)), Some(CLIPBOARD)),
            ("high byte set", indication(CLIPBOARD, &message(3, 0x0107)), Some(CLIPBOARD)),
            ("not a first chunk", indication(CLIPBOARD, &message(2, CB_CLIP_CAPS)), Some(CLIPBOARD)),
            ("cut short", indication(CLIPBOARD, &caps[..12]), Some(CLIPBOARD)),
            ("only a header", indication(CLIPBOARD, &caps[..8]), Some(CLIPBOARD)),
            ("empty", indication(CLIPBOARD, &[]), Some(CLIPBOARD)),
            ("attach user confirm", tpkt(&[0x2e, 0, 0, 3]), Some(CLIPBOARD)),
            ("garbage", tpkt(&[0xff; 40]), Some(CLIPBOARD)),
        ] {
            let sign = read(&frame, channel);
            assert!(matches!(sign, Sign::Chatter | Sign::Nothing), "{case}: {sign:?}");
            assert_eq!(decide(sign, Stage::Activated), None, "{case}");
        }
    }

    #[test]
    fn a_channel_that_speaks_before_the_credential_was_sent_proves_nothing() {
        for stage in [Stage::Secured, Stage::Challenged] {
            assert_eq!(decide(Sign::SessionSpoke, stage), None);
        }
        assert!(decide(Sign::SessionSpoke, Stage::CredentialSent).is_some());
    }

    #[test]
    fn an_ultimatum_is_a_drop_whatever_its_reason() {
        // Reasons user requested (3) and provider initiated (1), T.125 in aligned PER.
        for bytes in [[0x21, 0x80], [0x20, 0x80]] {
            let sign = read(&tpkt(&bytes), Some(CLIPBOARD));
            assert_eq!(sign, Sign::Ultimatum);
            assert_eq!(decide(sign, Stage::Activated), Some(Verdict::Dropped { stage: Stage::Activated }));
        }
    }
}
