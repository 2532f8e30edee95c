//! A picture of a desktop through a real RDP login: FreeRDP's shadow server on loopback shows a virtual screen with a
//! logo on it. Needs the packages of `tests/setup/packages.sh live test`; says so and passes where they are not there.
#![expect(clippy::disallowed_methods, reason = "the server under test is a program")]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nemordp_tests::lab::{CertificateCheck, RdpTarget, poll, rdp_screenshot};
use secrecy::SecretString;

const LIMIT: Duration = Duration::from_secs(30);
const PROGRAMS: [&str; 8] = ["openssl", "Xvfb", "xauth", "xlogo", "xwd", "convert", "xfreerdp", "freerdp-shadow-cli"];

/// One test at a time: servers that look for a free display or port at the same instant can take the same one.
static MACHINE: Mutex<()> = Mutex::new(());

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // An X server removes its files when it is asked to end.
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        let gone = poll(Duration::from_secs(5), || Ok(self.0.try_wait().ok().flatten()));
        if !matches!((asked, gone), (Ok(_), Ok(Some(_)))) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// A desktop behind NLA; field order is the order of ending.
struct Desktop {
    endpoint: SocketAddr,
    _shadow: Ended,
    _logo: Option<Ended>,
    _screen: Ended,
    home: tempfile::TempDir,
}

impl Desktop {
    fn start(with_logo: bool) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut screen = Command::new("Xvfb");
        // The shadow server opens the screen twice; a reset between the two would refuse the second.
        screen.args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"]);
        let mut screen = Ended(screen.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Xvfb"));
        let mut number = String::new();
        BufReader::new(screen.0.stdout.take().expect("piped")).read_line(&mut number).expect("a display");
        let display = format!(":{}", number.trim());
        let on_display = |program: &str| {
            let mut command = Command::new(program);
            command.env("DISPLAY", &display).env("HOME", home.path()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let logo = with_logo.then(|| Ended(on_display("xlogo").spawn().expect("a logo")));
        // "user" with the NT hash of "correct horse".
        std::fs::write(home.path().join("sam"), format!("user:::{NT_HASH}:::\n")).expect("written");
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port").port();
        let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut shadow = on_display("freerdp-shadow-cli");
        shadow.args([format!("/port:{port}"), "/bind-address:127.0.0.1".to_owned(), "/sec:nla".to_owned()]);
        shadow.arg(format!("/sam-file:{}", home.path().join("sam").display()));
        let shadow = Ended(shadow.spawn().expect("a server"));
        let listening = poll(LIMIT, || Ok(TcpStream::connect(endpoint).ok())).expect("polled");
        assert!(listening.is_some(), "the server listens");
        Self { endpoint, _shadow: shadow, _logo: logo, _screen: screen, home }
    }

    fn target(&self, password: &str) -> RdpTarget {
        RdpTarget {
            endpoint: self.endpoint,
            user: "user".to_owned(),
            password: SecretString::from(password),
            certificate: CertificateCheck::Ignore,
        }
    }
}

const PASSWORD: &str = "correct horse";
const NT_HASH: &str = "cfc43211ba8dc470832267827cac1407";

/// The machine to itself, or nothing (and a line why) where a program is missing.
fn machine() -> Option<MutexGuard<'static, ()>> {
    let folders = ["/usr/bin", "/usr/local/bin"];
    let is_there = |program: &str| folders.iter().any(|folder| Path::new(folder).join(program).exists());
    if let Some(missing) = PROGRAMS.iter().find(|program| !is_there(program)) {
        println!("skipped: {missing} is not installed (tests/setup/packages.sh live test)");
        return None;
    }
    Some(MACHINE.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn a_desktop_is_on_the_picture() {
    let Some(_machine) = machine() else { return };
    let desktop = Desktop::start(true);
    let file = desktop.home.path().join("desktop.png");
    let picture = rdp_screenshot(&desktop.target(PASSWORD), &file, LIMIT).expect("a picture");
    assert!(picture.colours >= 2, "{picture:?}");
    let bytes = std::fs::read(&file).expect("written");
    assert!(bytes.starts_with(b"\x89PNG"));
    if let Some(keep) = std::env::var_os("NEMORDP_KEEP_SCREENSHOT") {
        std::fs::copy(&file, keep).expect("kept");
    }
}

#[test]
fn a_wrong_password_gives_no_picture_and_stays_out_of_the_error() {
    let Some(_machine) = machine() else { return };
    let desktop = Desktop::start(true);
    let file = desktop.home.path().join("desktop.png");
    let error = rdp_screenshot(&desktop.target("wrong horse"), &file, LIMIT).expect_err("refused");
    assert!(error.to_string().starts_with("xfreerdp failed"), "{error}");
    assert!(!error.to_string().contains("wrong horse"), "{error}");
    assert!(!file.exists());
}

#[test]
fn the_certificate_that_was_expected_is_taken() {
    let Some(_machine) = machine() else { return };
    let desktop = Desktop::start(true);
    let certificate = desktop.home.path().join(".config/freerdp/shadow/shadow.crt");
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate);
    let printed = command.output().expect("openssl runs").stdout;
    let printed = String::from_utf8(printed).expect("text");
    let (_, digest) = printed.trim().split_once('=').expect("a fingerprint");
    let target =
        RdpTarget { certificate: CertificateCheck::Sha256(digest.replace(':', "")), ..desktop.target(PASSWORD) };
    let file = desktop.home.path().join("desktop.png");
    rdp_screenshot(&target, &file, LIMIT).expect("a picture");
}

#[test]
fn a_certificate_that_was_not_expected_gets_no_password() {
    let Some(_machine) = machine() else { return };
    let desktop = Desktop::start(true);
    let file = desktop.home.path().join("desktop.png");
    let target = RdpTarget { certificate: CertificateCheck::Sha256("ab".repeat(32)), ..desktop.target(PASSWORD) };
    let error = rdp_screenshot(&target, &file, LIMIT).expect_err("refused");
    assert!(error.to_string().starts_with("xfreerdp failed"), "{error}");
}

#[test]
fn a_blank_screen_is_no_desktop() {
    let Some(_machine) = machine() else { return };
    let desktop = Desktop::start(false);
    let file = desktop.home.path().join("desktop.png");
    let error = rdp_screenshot(&desktop.target(PASSWORD), &file, Duration::from_secs(4)).expect_err("nothing to see");
    assert!(error.to_string().starts_with("a desktop on the screen took longer"), "{error}");
}
