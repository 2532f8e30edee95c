//! The proof against a real NLA server: `FreeRDP`'s shadow server on loopback, sharing a private virtual screen.
#![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
#![expect(clippy::disallowed_methods, reason = "the test starts the server that it logs in to")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nemordp_proof::{
    CertificatePin, Credential, Evidence, NegotiationCause, Stage, Target, Verdict, prove, wait_until_ready,
};
use nemordp_types::LoginName;
use nemordp_types::template::RdpSecurity;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

const PATIENCE: Duration = Duration::from_secs(30);
const PROGRAMS: [&str; 3] = ["Xvfb", "winpr-hash", "freerdp-shadow-cli"];

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An X server that is killed leaves its socket and its lock; asked to end, it removes them.
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        let ended = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            matches!(self.0.try_wait(), Ok(Some(_)))
        });
        if asked.is_err() || !ended {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// A screen of its own; gives its display name. It is not reset when its only client leaves: the shadow server looks at
/// it once, closes it and opens it again, and an X server in a reset refuses that.
fn screen() -> (Running, String) {
    let mut child = Command::new("Xvfb")
        .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0", "640x480x24"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut number = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut number).unwrap();
    (Running(child), format!(":{}", number.trim()))
}

/// Serves the screen at a free port to `user` / `right`.
fn shadow(home: &Path, display: &str) -> (Running, SocketAddr) {
    let hash = Command::new("winpr-hash").args(["-u", "user", "-p", "right", "-f", "sam"]).output().unwrap();
    assert!(hash.status.success());
    let sam = home.join("sam");
    std::fs::write(&sam, hash.stdout).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = std::fs::File::create(home.join("log")).unwrap();
    let child = Command::new("freerdp-shadow-cli")
        .arg(format!("/port:{}", address.port()))
        .args(["/bind-address:127.0.0.1", "/sec:nla", "+auth"])
        .arg(format!("/sam-file:{}", sam.display()))
        .env("DISPLAY", display)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    (Running(child), address)
}

fn credential(name: &str, password: &str) -> Credential {
    Credential { login_name: LoginName::new(name).unwrap(), password: password.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn freerdp_shadow_accepts_the_right_password_and_no_other() {
    if let Some(missing) = PROGRAMS.iter().find(|program| !installed(program)) {
        println!("skipped: {missing} is not installed (apt install freerdp2-shadow-x11 winpr-utils xvfb)");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (_screen, display) = screen();
    let (_server, address) = shadow(home.path(), &display);
    let seen = wait_until_ready(address, PATIENCE, |_| ()).await;
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(seen.is_ready(), "{seen:?}; the server's log: {log}");

    let pem = home.path().join(".config/freerdp/shadow/shadow.crt");
    let certificate = CertificatePin::of_der(&CertificateDer::from_pem_file(pem).unwrap());
    let target = Target { address, security: RdpSecurity::Nla, certificate, require_authorization: false };
    let accepted = Verdict::Accepted { evidence: Evidence::PasswordProven };
    let dropped = Verdict::Dropped { stage: Stage::CredentialSent };

    assert_eq!(prove(&target, &credential("user", "right"), PATIENCE).await, accepted);
    assert_eq!(prove(&target, &credential("user", "wrong"), PATIENCE).await, dropped);
    assert_eq!(prove(&target, &credential("nobody", "right"), PATIENCE).await, dropped);

    let demanding = Target { require_authorization: true, ..target };
    let refused = Verdict::NegotiationRefused { cause: NegotiationCause::NoAuthorization };
    assert_eq!(prove(&demanding, &credential("user", "right"), PATIENCE).await, refused);
    let tls = Target { security: RdpSecurity::Tls, ..target };
    let refused = Verdict::NegotiationRefused { cause: NegotiationCause::Code(5) };
    assert_eq!(prove(&tls, &credential("user", "right"), PATIENCE).await, refused);
    let elsewhere = Target { certificate: CertificatePin::from_bytes([0; 32]), ..target };
    let mismatch = Verdict::CertificateMismatch { presented: certificate };
    assert_eq!(prove(&elsewhere, &credential("user", "right"), PATIENCE).await, mismatch);

    // A refusal leaves nothing behind that stands in the way of the right password.
    assert_eq!(prove(&target, &credential("user", "right"), PATIENCE).await, accepted);
}
