//! Two clones of a built template, booted side by side: each makes what must be its own, grows to its disk, and takes the
//! password that the guest agent sets.
//!
//! The template is that of the folder in `NEMORDP_TEMPLATE_DIR` (`debian-12-xrdp.qcow2`); without it, one is built. The
//! guests run under QEMU's own emulation, so the test needs no KVM.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and says what it skips")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const TEMPLATE: &str = "debian-12-xrdp";
/// Generous: four emulated guests may share one processor.
const BOOT: Duration = Duration::from_secs(240);

#[expect(clippy::disallowed_methods, reason = "the test starts QEMU and the installer itself")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut call = command(program);
    call.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    call.status().is_ok_and(|status| status.success())
}

/// Asks again until there is an answer, or the time is over.
fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The template's disk: a given one, or one built here; none when this machine cannot build.
fn template(scratch: &Path) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("NEMORDP_TEMPLATE_DIR") {
        let disk = Path::new(&folder).join(format!("{TEMPLATE}.qcow2"));
        assert!(disk.is_file(), "NEMORDP_TEMPLATE_DIR has no {TEMPLATE}.qcow2");
        return Some(disk);
    }
    if !nix::unistd::geteuid().is_root() || !succeeds("mmdebstrap", &["--version"]) {
        println!("skipped: set NEMORDP_TEMPLATE_DIR, or run as root with mmdebstrap installed");
        return None;
    }
    let built = command(env!("CARGO_BIN_EXE_nemordp-installer"))
        .args(["template", "build", TEMPLATE, "--out"])
        .arg(scratch)
        .status();
    assert!(built.unwrap().success(), "the template is built");
    Some(scratch.join(format!("{TEMPLATE}.qcow2")))
}

struct Guest {
    qemu: Child,
    agent: PathBuf,
    port: u16,
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

impl Guest {
    fn start(template: &Path, folder: &Path, name: &str) -> Self {
        let disk = folder.join(format!("{name}.qcow2"));
        let (backing, overlay) = (template.to_str().unwrap(), disk.to_str().unwrap());
        assert!(succeeds("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, overlay, "10G"]));
        // The port is free at this moment; QEMU takes it next.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let agent = folder.join(format!("{name}.agent"));
        let qemu = command("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-M",
                "q35",
                "-cpu",
                "max",
                "-smp",
                "1",
                "-m",
                "1024",
                "-nodefaults",
                "-no-user-config",
            ])
            .args(["-display", "none", "-vga", "none", "-device", "virtio-rng-pci", "-device", "virtio-serial"])
            .args([
                "-drive",
                &format!("file={overlay},if=none,id=disk,discard=unmap"),
                "-device",
                "virtio-blk-pci,drive=disk",
            ])
            .args(["-netdev", &format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:3389")])
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-chardev", &format!("socket,id=agent,path={},server=on,wait=off", agent.display())])
            .args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { qemu, agent, port }
    }

    fn ask(&self, command: &str, arguments: &Value) -> Option<Value> {
        let mut socket = UnixStream::connect(&self.agent).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        writeln!(socket, "{}", json!({"execute": command, "arguments": arguments})).ok()?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).ok()?;
        let answer: Value = serde_json::from_str(&line).ok()?;
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer.get("return").cloned()
    }

    fn shell(&self, script: &str) -> String {
        let started =
            self.ask("guest-exec", &json!({"path": "/bin/sh", "arg": ["-c", script], "capture-output": true}));
        let pid = started.unwrap()["pid"].clone();
        let status = until(script, Duration::from_secs(60), || {
            self.ask("guest-exec-status", &json!({"pid": pid})).filter(|status| status["exited"] == true)
        });
        let text = status["out-data"].as_str().unwrap_or_default();
        String::from_utf8(unbase64(text)).unwrap().trim().to_owned()
    }

    /// Whether the RDP server confirms a connection (X.224).
    fn answers_rdp(&self) -> bool {
        let request = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0];
        let mut answer = [0; 11];
        let exchange = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(&request)?;
            stream.read_exact(&mut answer)?;
            Ok(answer[0] == 3 && answer[5] == 0xd0)
        };
        let mut exchange = exchange;
        exchange().unwrap_or(false)
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for value in text.bytes().filter_map(|byte| ALPHABET.iter().position(|known| *known == byte)) {
        bits = (bits << 6) | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn every_clone_has_an_identity_of_its_own_and_grows_to_its_disk() {
    if !succeeds("qemu-system-x86_64", &["--version"]) || !succeeds("qemu-img", &["--version"]) {
        println!("skipped: qemu-system-x86_64 and qemu-img are not installed");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let Some(template) = template(scratch.path()) else { return };
    let template = template.canonicalize().unwrap();
    println!("guests run under emulation (TCG)");
    let guests = ["one", "two"].map(|name| Guest::start(&template, scratch.path(), name));
    let started = Instant::now();
    for guest in &guests {
        until("the guest agent answers", BOOT, || guest.ask("guest-ping", &json!({})));
        until("the RDP server answers", BOOT, || guest.answers_rdp().then_some(()));
        println!("agent and RDP answer after {:.1} s", started.elapsed().as_secs_f64());
    }
    for guest in &guests {
        let late = "systemctl is-active nemordp-late.target";
        until("late services are up", BOOT, || (guest.shell(late) == "active").then_some(()));
    }
    let both = |script: &str| guests.each_ref().map(|guest| guest.shell(script));

    for path in [
        "/etc/machine-id",
        "/etc/ssh/ssh_host_ed25519_key.pub",
        "/etc/ssh/ssh_host_ecdsa_key.pub",
        "/etc/xrdp/cert.pem",
        "/var/lib/systemd/random-seed",
    ] {
        let [one, two] = both(&format!("sha256sum {path}"));
        assert!(one.ends_with(path) && two.ends_with(path), "{path} is there: {one:?} {two:?}");
        assert_ne!(one, two, "{path} differs");
    }
    assert_eq!(both("stat -c '%U %a' /etc/xrdp/key.pem"), ["xrdp 400", "xrdp 400"]);

    for size in both("df --output=size -B1M / | tail -1") {
        assert!(size.trim().parse::<u64>().unwrap() > 9_500, "the root filesystem has grown: {size} MiB");
    }
    assert_eq!(both("systemctl is-active systemd-timesyncd ssh xrdp | sort -u"), ["active", "active"]);
    assert_eq!(both("systemctl --failed --no-legend"), ["", ""]);
    for line in both("cat /proc/cmdline") {
        assert!(!line.contains("mitigations"), "{line}");
    }
    for lines in both("journalctl -b --no-pager | wc -l") {
        assert!(lines.parse::<u64>().unwrap() > 100, "the journal has {lines} lines");
    }
    for guest in &guests {
        assert_eq!(guest.shell("passwd -S user | cut -d' ' -f2"), "L", "locked until a password is set");
        let before = guest.shell("grep ^user: /etc/shadow");
        // "clone-test-1" in Base64, as the agent wants it.
        let password = json!({"username": "user", "password": "Y2xvbmUtdGVzdC0x", "crypted": false});
        guest.ask("guest-set-user-password", &password).unwrap();
        assert_ne!(guest.shell("grep ^user: /etc/shadow"), before);
        assert_eq!(guest.shell("passwd -S user | cut -d' ' -f2"), "P");
        assert_eq!(guest.shell("id -nG user"), "user sudo");
    }
}
