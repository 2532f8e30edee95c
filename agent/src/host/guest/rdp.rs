//! The first packet of an RDP connection (MS-RDPBCGR 2.2.1.1, X.224 connection request): whoever confirms it speaks RDP.
//!
//! Nothing further is sent: half a TLS handshake costs an emulated guest more than a second of processor time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks for TLS or CredSSP; a server that takes neither still answers with a confirm.
const CONNECTION_REQUEST: [u8; 19] = [
    0x03, 0x00, 0x00, 0x13, // TPKT, 19 bytes
    0x0e, 0xe0, 0x00, 0x00, 0x00, 0x00, 0x00, // X.224 connection request
    0x01, 0x00, 0x08, 0x00, 0x03, 0x00, 0x00, 0x00, // RDP_NEG_REQ: TLS or CredSSP
];

/// Whether these are the first bytes of a connection confirm.
#[must_use]
pub fn is_confirm(answer: &[u8; 6]) -> bool {
    answer[0] == 3 && answer[5] == 0xd0
}

/// Asks once and waits for the answer until the deadline; refused and silent are both "no".
pub async fn answers(address: SocketAddr, deadline: Duration) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&CONNECTION_REQUEST).await?;
        let mut answer = [0u8; 6];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(is_confirm(&answer))
    };
    matches!(tokio::time::timeout(deadline, ask).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0u8; 19];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn only_a_confirm_counts_as_an_answer() {
        let second = Duration::from_secs(1);
        let confirm = b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x01\x00\x00\x00";
        assert!(answers(server(confirm).await, second).await);
        assert!(!answers(server(b"SSH-2.0-OpenSSH_9.2p1\r\n").await, second).await);
        assert!(!answers(server(b"\x03\x00").await, second).await);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(!answers(closed, second).await);
    }
}
