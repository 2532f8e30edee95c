//! A picture of the desktop behind an endpoint, taken by a real RDP client on a screen of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nemordp_types::{Entropy, SystemEntropy};
use nix::sys::signal::Signal;
use secrecy::{ExposeSecret, SecretString};

use super::error::{During, LabError, Result};
use super::process::{self, ProcessRef, poll_every, tool};
use super::turn::Turn;

const WIDTH: usize = 1024;
const HEIGHT: usize = 700;
/// A desktop that has looked the same for so long is drawn to the end, also on an emulated processor.
pub(super) const SETTLED: Duration = Duration::from_secs(3);
/// Pause between two looks; each costs the machine some time that an emulated guest could use.
const LOOK_EVERY: Duration = Duration::from_millis(250);
pub(super) const PROGRAMS: &[&str] = &["Xvfb", "xauth", "xwd", "convert", "xfreerdp", "setpriv"];

/// How the client treats the server's certificate.
#[derive(Debug, Clone)]
pub enum CertificateCheck {
    /// Any certificate will do: only for servers that a test started itself.
    Ignore,
    /// The SHA-256 of the certificate, in hexadecimal.
    Sha256(String),
}

/// Whose desktop.
#[derive(Debug, Clone)]
pub struct RdpTarget {
    /// Where the RDP server listens.
    pub endpoint: SocketAddr,
    /// Login name.
    pub user: String,
    /// It goes to the client through a pipe, never on a command line.
    pub password: SecretString,
    /// What the server's certificate must be.
    pub certificate: CertificateCheck,
}

/// A picture that was taken.
#[derive(Debug, Clone)]
pub struct Screenshot {
    /// The PNG file.
    pub file: PathBuf,
    /// How many colours are on it.
    pub colours: usize,
    /// Whether the picture had come to rest; else it shows the desktop when the time was over.
    pub settled: bool,
    /// From the client's start to the picture.
    pub took: Duration,
}

/// Logs in, waits until the screen shows something and has come to rest, and saves it as PNG.
///
/// # Errors
/// When the client ends (wrong password, no server), or when the screen is still blank after `limit`; the client's
/// last words are in the error. Nothing is left running either way.
pub fn rdp_screenshot(target: &RdpTarget, file: &Path, limit: Duration) -> Result<Screenshot> {
    process::require_installed(PROGRAMS)?;
    let work = tempfile::Builder::new().prefix("nemordp-screen").tempdir().during(|| "make a folder".to_owned())?;
    let screen = Screen::start(work.path())?;
    let log = work.path().join("client.log");
    let started = Instant::now();
    let mut client = start_client(target, &screen, work.path(), &log)?;
    let seen = wait_for_desktop(&mut client, &screen, limit, &log)?;
    save(&seen.pixels, file)?;
    let colours = Tones::of(&seen.pixels).colours;
    Ok(Screenshot { file: file.to_owned(), colours, settled: seen.settled, took: started.elapsed() })
}

pub(super) struct Seen {
    pub(super) pixels: Vec<u8>,
    settled: bool,
}

pub(super) fn wait_for_desktop(client: &mut Owned, screen: &Screen, limit: Duration, log: &Path) -> Result<Seen> {
    let mut last: Option<(Vec<u8>, Instant)> = None;
    let drawn = poll_every(LOOK_EVERY, limit, || {
        if let Some(status) = client.child.try_wait().during(|| "wait for xfreerdp".to_owned())? {
            let (status, output) = (process::ending(status), last_words(log));
            return Err(LabError::Command { command: "xfreerdp".to_owned(), status, output });
        }
        let pixels = screen.pixels()?;
        if Tones::of(&pixels).is_blank() {
            last = None;
            return Ok(None);
        }
        match &last {
            Some((earlier, since)) if alike(earlier, &pixels) => Ok((since.elapsed() >= SETTLED).then_some(())),
            Some(_) | None => {
                last = Some((pixels, Instant::now()));
                Ok(None)
            }
        }
    })?;
    match last {
        Some((pixels, _)) => Ok(Seen { pixels, settled: drawn.is_some() }),
        None => Err(LabError::Deadline {
            what: "a desktop on the screen".to_owned(),
            limit,
            context: format!("; the RDP client said: {}", last_words(log)),
        }),
    }
}

/// Whether less than a hundredth of the picture differs: a clock and a load meter never come to rest.
pub(super) fn alike(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && changed(one, other) * 100 < one.len() / 3
}

/// How many pixels differ.
pub(super) fn changed(one: &[u8], other: &[u8]) -> usize {
    one.chunks_exact(3).zip(other.chunks_exact(3)).filter(|(one, other)| one != other).count()
}

pub(super) fn start_client(target: &RdpTarget, screen: &Screen, home: &Path, log: &Path) -> Result<Owned> {
    let mut client = screen.tool("xfreerdp");
    let certificate = match &target.certificate {
        CertificateCheck::Ignore => "/cert:ignore".to_owned(),
        CertificateCheck::Sha256(digest) => format!("/cert:fingerprint:sha256:{}", with_colons(digest)),
    };
    client.env("HOME", home).stdin(Stdio::piped());
    client.args([format!("/v:{}", target.endpoint), format!("/u:{}", target.user), certificate]);
    client.args([format!("/size:{WIDTH}x{HEIGHT}"), "/bpp:24".to_owned(), "/log-level:WARN".to_owned()]);
    client.arg("/from-stdin:force");
    let log_file = File::create(log).at("create", log)?;
    client.stdout(log_file.try_clone().at("open", log)?).stderr(log_file);
    let mut client = Owned::start(&mut client)?;
    if let Some(mut input) = client.child.stdin.take() {
        // It asks for nothing else. A client that ended already says why in its log.
        drop(writeln!(input, "{}", target.password.expose_secret()));
    }
    Ok(client)
}

/// FreeRDP compares with the form that it prints: pairs of digits and colons.
fn with_colons(digest: &str) -> String {
    let digits: Vec<char> =
        digest.chars().filter(char::is_ascii_hexdigit).map(|digit| digit.to_ascii_lowercase()).collect();
    digits.chunks(2).map(|pair| pair.iter().collect::<String>()).collect::<Vec<_>>().join(":")
}

fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join(" | ")
}

pub(super) fn save(pixels: &[u8], file: &Path) -> Result<()> {
    let mut convert = tool("convert");
    convert.args(["-size", &format!("{WIDTH}x{HEIGHT}"), "-depth", "8", "rgb:-"]);
    convert.arg(format!("png:{}", file.display())).stdin(Stdio::piped());
    let mut convert = Owned::start(&mut convert)?;
    if let Some(mut input) = convert.child.stdin.take() {
        input.write_all(pixels).during(|| "hand the picture to convert".to_owned())?;
    }
    let status = convert.child.wait().during(|| "wait for convert".to_owned())?;
    if status.success() {
        return Ok(());
    }
    let output = format!("{} was not written", file.display());
    Err(LabError::Command { command: "convert".to_owned(), status: process::ending(status), output })
}

/// How many colours a picture has, and how much of it is not its commonest colour.
struct Tones {
    colours: usize,
    foreground: f64,
}

impl Tones {
    fn of(pixels: &[u8]) -> Self {
        let mut counts = std::collections::HashMap::<&[u8], u32>::new();
        for pixel in pixels.chunks_exact(3) {
            *counts.entry(pixel).or_default() += 1;
        }
        let all: u32 = counts.values().sum();
        let commonest = counts.values().copied().max().unwrap_or(0);
        Self { colours: counts.len(), foreground: f64::from(all - commonest) / f64::from(all.max(1)) }
    }

    /// One colour, or a cursor on it: nothing has been drawn.
    fn is_blank(&self) -> bool {
        const LEAST: f64 = 0.002;
        self.colours < 2 || self.foreground < LEAST
    }
}

/// A virtual X screen that only we may use; gone when dropped.
pub(super) struct Screen {
    display: String,
    authority: PathBuf,
    _server: Owned,
    _folder: SocketFolder,
}

impl Screen {
    /// The server itself takes a free display number and tells it on its standard output.
    pub(super) fn start(work: &Path) -> Result<Self> {
        let authority = work.join("authority");
        // The server takes any display's cookie from the file; the client's entry is added below.
        authorise(&authority, ":0")?;
        // Two servers that look for a free number at the same instant can take the same one.
        let _turn = Turn::wait("display")?;
        let folder = SocketFolder::remember();
        let mut server = tool("setpriv");
        server.args([
            "--pdeathsig",
            "TERM",
            "Xvfb",
            "-displayfd",
            "1",
            "-screen",
            "0",
            &format!("{WIDTH}x{HEIGHT}x24"),
        ]);
        server.args(["-nolisten", "tcp", "-noreset", "-auth"]).arg(&authority);
        let log = work.join("screen.log");
        server.stdout(Stdio::piped()).stderr(File::create(&log).at("create", &log)?);
        let mut server = Owned::start(&mut server)?;
        let mut number = String::new();
        if let Some(output) = server.child.stdout.take() {
            // It closes its output or ends when it cannot start.
            BufReader::new(output).read_line(&mut number).during(|| "read Xvfb's display number".to_owned())?;
        }
        if number.trim().is_empty() {
            let output = last_words(&log);
            return Err(LabError::Command { command: "Xvfb".to_owned(), status: "no display".to_owned(), output });
        }
        let display = format!(":{}", number.trim());
        same_cookie(&authority, &display)?;
        Ok(Self { display, authority, _server: server, _folder: folder })
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = tool("setpriv");
        command.args(["--pdeathsig", "KILL", program]).env("DISPLAY", &self.display).env("XAUTHORITY", &self.authority);
        command
    }

    /// Red, green and blue of every pixel.
    pub(super) fn pixels(&self) -> Result<Vec<u8>> {
        let dump = process::run(
            {
                let mut command = self.tool("sh");
                command.args(["-c", "xwd -root -silent | convert xwd:- -depth 8 rgb:-"]);
                command
            },
            Duration::from_secs(20),
        )?;
        let dump = dump.success()?;
        if dump.stdout.len() == WIDTH * HEIGHT * 3 {
            return Ok(dump.stdout);
        }
        let why = format!("{} bytes instead of {WIDTH}x{HEIGHT} pixels; {}", dump.stdout.len(), dump.stderr.trim());
        Err(LabError::Malformed { what: "the picture of the screen".to_owned(), why })
    }
}

/// Puts a fresh cookie for the display into the file; through standard input, because command lines can be read.
fn authorise(file: &Path, display: &str) -> Result<()> {
    let mut cookie = [0_u8; 16];
    SystemEntropy.fill(&mut cookie);
    File::create(file).at("create", file)?;
    xauth(file, &format!("add {display} . {}\n", hex::encode(cookie)))
}

/// Gives the display that was chosen the cookie that the server has.
fn same_cookie(file: &Path, display: &str) -> Result<()> {
    let mut command = tool("xauth");
    command.arg("-f").arg(file).args(["list"]);
    let listed = process::run(command, Duration::from_secs(10))?.success()?.text();
    let cookie = listed.split_whitespace().last().unwrap_or_default().to_owned();
    xauth(file, &format!("add {display} . {cookie}\n"))
}

fn xauth(file: &Path, request: &str) -> Result<()> {
    let mut command = tool("xauth");
    command.arg("-q").arg("-f").arg(file).args(["source", "-"]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut command = Owned::start(&mut command)?;
    if let Some(mut input) = command.child.stdin.take() {
        input.write_all(request.as_bytes()).during(|| "talk to xauth".to_owned())?;
    }
    let status = command.child.wait().during(|| "wait for xauth".to_owned())?;
    if status.success() {
        return Ok(());
    }
    Err(LabError::Command { command: "xauth".to_owned(), status: process::ending(status), output: String::new() })
}

/// A child that ends when this value is dropped.
pub(super) struct Owned {
    pub(super) child: Child,
}

impl Owned {
    fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self { child: command.spawn().during(|| format!("start {name}"))? })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Asked first: an X server removes its socket and lock only then.
        if let Some(process) = i32::try_from(self.child.id()).ok().and_then(ProcessRef::of) {
            process.signal(Signal::SIGTERM);
            let _ = process.wait_gone(Duration::from_secs(5));
        }
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The folder of X's sockets is made by the first server; then it goes with the last.
struct SocketFolder {
    was_there: bool,
}

impl SocketFolder {
    const PATH: &str = "/tmp/.X11-unix";

    fn remember() -> Self {
        Self { was_there: Path::new(Self::PATH).exists() }
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if !self.was_there {
            // Refused while another server's socket lies in it.
            drop(fs::remove_dir(Self::PATH));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_with_only_a_cursor_is_blank_and_a_window_is_not() {
        let mut pixels = vec![0_u8; WIDTH * HEIGHT * 3];
        assert!(Tones::of(&pixels).is_blank());
        pixels[..600].copy_from_slice(&[200; 600]);
        assert!(Tones::of(&pixels).is_blank(), "200 white pixels are a cursor");
        for (index, byte) in pixels.iter_mut().enumerate().take(90_000) {
            *byte = if index % 7 == 0 { 40 } else { 200 };
        }
        assert!(!Tones::of(&pixels).is_blank());
    }

    #[test]
    fn a_ticking_clock_is_no_change_and_a_new_window_is() {
        let calm = vec![10_u8; WIDTH * HEIGHT * 3];
        let mut other = calm.clone();
        other[..80 * 20 * 3].fill(200);
        assert!(alike(&calm, &other));
        other[..200 * 100 * 3].fill(200);
        assert!(!alike(&calm, &other));
    }

    #[test]
    fn fingerprints_take_the_form_that_freerdp_prints() {
        assert_eq!(with_colons("AB12cd"), "ab:12:cd");
        assert_eq!(with_colons("ab:12:cd"), "ab:12:cd");
    }
}
