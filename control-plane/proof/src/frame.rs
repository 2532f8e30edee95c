//! Reads one protocol unit at a time, bounded, and tells apart what a peer that does not keep to the protocol does.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::stage::Stage;
use crate::verdict::Verdict;

/// A unit of the RDP stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// With a TPKT header (RFC 1006): everything that is not fast-path.
    Tpkt(Vec<u8>),
    /// Fast-path output (MS-RDPBCGR 2.2.9.1.2): pictures, of no use to a proof.
    FastPath,
}

/// Why no unit could be read.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The peer ended the connection.
    Ended,
    /// The bytes are not of this protocol.
    Foreign(String),
    /// The connection broke on the way.
    Io(io::Error),
}

impl FrameError {
    /// What it means for a proof that came as far as `stage`.
    pub(crate) fn into_verdict(self, stage: Stage) -> Verdict {
        match self {
            // Before TLS stands, an RDP server has no cause to hang up: it is something else.
            Self::Ended if stage < Stage::Secured => {
                Verdict::NotRdp { stage, detail: "it ended the connection".to_owned() }
            }
            Self::Ended => Verdict::Dropped { stage },
            Self::Foreign(detail) => Verdict::NotRdp { stage, detail },
            Self::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Verdict::NotRdp { stage, detail: error.to_string() }
            }
            Self::Io(error) => Verdict::NoAnswer { detail: format!("the connection broke after {stage}: {error}") },
        }
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        let ended = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        );
        if ended { Self::Ended } else { Self::Io(error) }
    }
}

/// Reads a unit with a TPKT header; anything else is foreign.
pub(crate) async fn read_tpkt(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, FrameError> {
    let first = stream.read_u8().await?;
    read_tpkt_after(stream, first).await
}

/// Reads a unit of the RDP stream; fast-path output is read over.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, FrameError> {
    let first = stream.read_u8().await?;
    if first & 0x03 != 0 {
        return read_tpkt_after(stream, first).await.map(Frame::Tpkt);
    }
    let (length, header) = match stream.read_u8().await? {
        high if high & 0x80 != 0 => (usize::from(high & 0x7f) << 8 | usize::from(stream.read_u8().await?), 3),
        low => (usize::from(low), 2),
    };
    let Some(rest) = length.checked_sub(header) else {
        return Err(FrameError::Foreign(format!("a fast-path unit of {length} bytes")));
    };
    stream.read_exact(&mut vec![0; rest]).await?;
    Ok(Frame::FastPath)
}

async fn read_tpkt_after(stream: &mut (impl AsyncRead + Unpin), first: u8) -> Result<Vec<u8>, FrameError> {
    if first != 3 {
        return Err(FrameError::Foreign(format!("it begins with byte {first:#04x}, not with a TPKT header")));
    }
    let mut frame = vec![3, 0, 0, 0];
    stream.read_exact(&mut frame[1..]).await?;
    let length = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
    // Four bytes of TPKT and three of X.224 are the least there is.
    if length < 7 {
        return Err(FrameError::Foreign(format!("a TPKT unit of {length} bytes")));
    }
    frame.resize(length, 0);
    stream.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

/// Reads one `TSRequest` of CredSSP (MS-CSSP 2.2.1): a DER SEQUENCE of at most 64 KiB.
pub(crate) async fn read_ts_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, FrameError> {
    let tag = stream.read_u8().await?;
    if tag != 0x30 {
        return Err(FrameError::Foreign(format!("it answers CredSSP with byte {tag:#04x}")));
    }
    let mut request = vec![tag, stream.read_u8().await?];
    let length = match request[1] {
        short if short < 0x80 => usize::from(short),
        0x81 => {
            request.push(stream.read_u8().await?);
            usize::from(request[2])
        }
        0x82 => {
            let length = stream.read_u16().await?;
            request.extend(length.to_be_bytes());
            usize::from(length)
        }
        other => return Err(FrameError::Foreign(format!("a CredSSP length of form {other:#04x}"))),
    };
    let header = request.len();
    request.resize(header + length, 0);
    stream.read_exact(&mut request[header..]).await?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn units_are_cut_where_they_end() {
        let mut bytes: &[u8] = &[0x00, 0x04, 9, 9, 0x00, 0x80, 0x05, 9, 9, 3, 0, 0, 8, 2, 0xf0, 0x80, 0x21, 3];
        assert_eq!(read_frame(&mut bytes).await.unwrap(), Frame::FastPath);
        assert_eq!(read_frame(&mut bytes).await.unwrap(), Frame::FastPath);
        assert_eq!(read_frame(&mut bytes).await.unwrap(), Frame::Tpkt(vec![3, 0, 0, 8, 2, 0xf0, 0x80, 0x21]));
        assert!(matches!(read_frame(&mut bytes).await, Err(FrameError::Ended)));
    }

    #[tokio::test]
    async fn foreign_bytes_and_impossible_lengths_are_told_apart_from_an_end() {
        for bytes in [&b"SSH-2.0-x"[..], &[3, 0, 0, 4, 0], &[0x00, 0x01], &[0x16, 3, 1, 0, 5]] {
            let mut bytes = bytes;
            assert!(matches!(read_frame(&mut bytes).await, Err(FrameError::Foreign(_))), "{bytes:?}");
        }
        assert!(matches!(read_tpkt(&mut &b"HTTP/1.1 400"[..]).await, Err(FrameError::Foreign(_))));
        for bytes in [&b"HTTP/1.1"[..], &[0x30, 0x83, 1, 0, 0], &[0x30, 0x80]] {
            let mut bytes = bytes;
            assert!(matches!(read_ts_request(&mut bytes).await, Err(FrameError::Foreign(_))), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_ts_request_keeps_its_header() {
        let long: Vec<u8> = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        assert_eq!(read_ts_request(&mut &long[..]).await.unwrap(), long);
        assert_eq!(read_ts_request(&mut &[0x30, 0x81, 1, 5, 6][..]).await.unwrap(), [0x30, 0x81, 1, 5]);
    }
}
