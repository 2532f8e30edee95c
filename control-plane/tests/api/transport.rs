//! How the API is reached: TLS with the operator's certificate, or a stated proxy.

use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;

use crate::harness::Plane;

#[tokio::test]
async fn the_operators_certificate_serves_https_and_nothing_is_said_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["cloud.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let http = format!("certificate_file = \"{}\"\nkey_file = \"{}\"", chain.display(), key.display());
    let plane = Plane::start_with(&http, "").await;
    let address = plane.running.http_addr;
    let trusted = reqwest::Certificate::from_pem(certificate.pem().as_bytes()).unwrap();
    let client =
        reqwest::Client::builder().tls_certs_only([trusted]).resolve("cloud.example", address).build().unwrap();
    let url = format!("https://cloud.example:{}/v1/plans", address.port());
    let answer = client.get(url).bearer_auth(&plane.key).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert!(answer.headers().contains_key("strict-transport-security"));
    assert!(reqwest::get(format!("http://{address}/healthz")).await.is_err());
}

#[tokio::test]
async fn behind_a_stated_proxy_the_last_named_client_is_the_one_that_waits() {
    let plane = Plane::start_with("behind_proxy = true\npublic_url = \"https://cloud.example\"", "").await;
    let ask = async |client: &str| {
        let request = plane.bare(Method::GET, "/v1/plans").header("X-Forwarded-For", client);
        plane.send(request.bearer_auth("nrk1.guess")).await.status.as_u16()
    };
    for _ in 0..20 {
        assert_eq!(ask("198.51.100.9, 192.0.2.1").await, 401);
    }
    assert_eq!(ask("203.0.113.5, 192.0.2.1").await, 429, "what the client itself wrote does not count");
    assert_eq!(ask("192.0.2.2").await, 401);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_is_cut_off_by_the_body_bound() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let plane = Plane::start_with("request_deadline_seconds = 1", "").await;
    let mut stream = tokio::net::TcpStream::connect(plane.running.http_addr).await.unwrap();
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIdempotency-Key: slow\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        plane.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0u8; 4096];
    let read =
        tokio::time::timeout(std::time::Duration::from_secs(10), stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("deadline_exceeded"), "{answer}");
    // Its turn is over: the same intention can be sent again.
    plane.stocked().await;
    plane.post("/v1/orders", "slow", &plane.order_body()).await.expect(202);
}
