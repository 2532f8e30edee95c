//! The lab proves itself: what it makes works, and nothing of it stays. Needs root and the packages of
//! `tests/setup/packages.sh live`; says so and passes where they are not there.
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nemordp_tests::lab::{Host, HostNumber, Lab, LabError, ProcessRef, Snapshot, poll};

const PATIENCE: Duration = Duration::from_secs(30);

/// One test at a time: each compares the whole machine.
static MACHINE: Mutex<()> = Mutex::new(());

const FOREIGN: &str = "<domain type='qemu'><name>foreign</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
    <os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>";

/// The machine to itself, or nothing (and a line why) where no lab can run.
fn machine() -> Option<MutexGuard<'static, ()>> {
    if let Some(why) = Lab::unavailable() {
        println!("skipped: {why}");
        return None;
    }
    Some(MACHINE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A lab in a directory of its own, taken down also when the test fails.
struct Borrowed {
    lab: Lab,
    before: Snapshot,
    _dir: tempfile::TempDir,
}

impl Borrowed {
    fn new() -> Self {
        let before = Snapshot::take().expect("a look at the machine");
        let dir = tempfile::Builder::new().prefix("nl").tempdir().expect("a folder");
        Self { lab: Lab::new(dir.path()).expect("a lab"), before, _dir: dir }
    }

    fn host(&self, number: u8) -> Host {
        let host = self.lab.host(HostNumber::new(number).expect("in range"));
        host.up().expect("the host starts");
        host
    }

    fn down(&self) {
        self.lab.down().expect("nothing is left");
        let differences = self.before.diff(&Snapshot::take().expect("a look at the machine"));
        let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(words.is_empty(), "the machine is not as it was:\n{}", words.join("\n"));
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = self.lab.down()
        {
            println!("clean-up: {error}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test asks libvirt as an operator would")]
fn virsh(host: &Host, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new("virsh");
    command.args(["--quiet", "--connect", &host.libvirt_uri()]).args(arguments);
    command.output().expect("virsh runs")
}

fn asked(host: &Host, arguments: &[&str]) -> String {
    let output = virsh(host, arguments);
    assert!(output.status.success(), "virsh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn inside(host: &Host, script: &str) -> String {
    let finished = host.exec(&["sh", "-c", script]).expect("it runs");
    finished.success().expect("it succeeds").text().trim().to_owned()
}

#[test]
fn a_host_has_a_libvirt_of_its_own_and_leaves_nothing() {
    let Some(_machine) = machine() else { return };
    let borrowed = Borrowed::new();
    let host = borrowed.host(1);
    assert_eq!(asked(&host, &["list", "--all", "--name"]), "");
    assert_eq!(asked(&host, &["net-list", "--all", "--name"]), "", "the agent makes its own network");
    assert_eq!(
        inside(&host, "hostname; getent hosts $(hostname) | cut -d' ' -f1"),
        "lab-node1\n198.18.".to_owned() + &rest(&host)
    );
    if Path::new("/dev/kvm").exists() {
        assert_eq!(inside(&host, "stat -c '%a %U:%G' /dev/kvm"), "660 root:kvm");
    }
    assert_eq!(inside(&host, "ss -Hltn | wc -l"), "0", "libvirt listens on no port");

    let xml = host.data_dir().join("foreign.xml");
    std::fs::write(&xml, FOREIGN).expect("written");
    let xml = xml.display().to_string();
    asked(&host, &["define", &xml]);
    asked(&host, &["start", "foreign"]);
    assert_eq!(asked(&host, &["domstate", "foreign"]), "running");
    let guest = host
        .processes()
        .expect("listed")
        .into_iter()
        .find(|facts| facts.name.starts_with("qemu-system"))
        .expect("a guest");

    let daemon = host.libvirtd().expect("asked").expect("it runs");
    host.kill_libvirtd().expect("it comes back");
    assert_ne!(host.libvirtd().expect("asked"), Some(daemon));
    assert_eq!(asked(&host, &["domstate", "foreign"]), "running");
    assert!(guest.process.is_alive(), "the guest was not disturbed");

    borrowed.down();
    assert!(!guest.process.is_alive());
}

/// The last two octets of a host's address.
fn rest(host: &Host) -> String {
    let [_, _, third, fourth] = host.address().expect("an address").octets();
    format!("{third}.{fourth}")
}

#[test]
fn a_reboot_is_another_boot_with_the_same_disk() {
    let Some(_machine) = machine() else { return };
    let borrowed = Borrowed::new();
    let host = borrowed.host(1);
    let boot = inside(&host, "touch /run/of-this-boot; cat /proc/sys/kernel/random/boot_id");
    let xml = host.data_dir().join("foreign.xml");
    std::fs::write(&xml, FOREIGN).expect("written");
    asked(&host, &["define", &xml.display().to_string()]);
    let identity = (asked(&host, &["domuuid", "foreign"]), host.address().expect("an address"));
    let program = host.spawn(Path::new("sleep"), &["600"], &host.data_dir().join("log")).expect("started");
    assert!(program.is_alive());

    host.reboot().expect("it comes back");

    assert!(!program.is_alive());
    assert_ne!(inside(&host, "cat /proc/sys/kernel/random/boot_id"), boot);
    assert_eq!(inside(&host, "ls /run/of-this-boot 2>/dev/null || echo none"), "none");
    assert_eq!((asked(&host, &["domuuid", "foreign"]), host.address().expect("an address")), identity);
    assert_eq!(asked(&host, &["domstate", "foreign"]), "shut off");
    borrowed.down();
}

#[test]
fn two_labs_live_side_by_side_and_hosts_reach_the_machine() {
    let Some(_machine) = machine() else { return };
    let outer = Borrowed::new();
    let (first, second) = (outer.host(1), outer.host(2));
    let inner = Borrowed::new();
    let other = inner.host(1);
    assert_ne!(first.address().expect("an address").octets()[2], other.address().expect("an address").octets()[2]);

    let listener = TcpListener::bind((outer.lab.machine_address().expect("an address"), 0)).expect("bound");
    let at = listener.local_addr().expect("an address");
    inside(&second, &format!("bash -c 'exec 3<>/dev/tcp/{}/{}'", at.ip(), at.port()));
    let (_, from) = listener.accept().expect("a connection");
    assert_eq!(from.ip(), std::net::IpAddr::from(second.address().expect("an address")));

    let again = Lab::new(outer.lab.dir()).expect("another handle");
    assert_eq!(again.hosts().expect("listed").len(), 2);
    let daemon = first.libvirtd().expect("asked");
    again.host(HostNumber::FIRST).up().expect("it runs already");
    assert_eq!(first.libvirtd().expect("asked"), daemon, "a running host is left alone");

    inner.down();
    assert!(first.is_up().expect("asked"), "the other lab's end does not touch this one");
    drop(listener);
    outer.down();
}

#[test]
fn programs_of_a_lab_end_with_it_even_if_nobody_recorded_them() {
    let Some(_machine) = machine() else { return };
    let borrowed = Borrowed::new();
    let log = borrowed.lab.dir().join("log");
    let mut command = borrowed.host(1).command("sleep").expect("a host");
    command.arg("601");
    #[expect(
        clippy::zombie_processes,
        reason = "it has to outlive its handle, as after a crash; the test's end reaps it"
    )]
    let unrecorded = command.spawn().expect("started");
    let unrecorded = ProcessRef::of(i32::try_from(unrecorded.id()).expect("a pid")).expect("it runs");
    #[expect(clippy::disallowed_methods, reason = "the lab takes the command apart")]
    let mut stubborn = std::process::Command::new("sh");
    stubborn.args(["-c", "echo $GREETING; trap '' TERM; sleep 602 & wait; wait"]).env("GREETING", "hello");
    let recorded = borrowed.lab.spawn("stubborn", &stubborn, &log).expect("started");
    let said = poll(PATIENCE, || Ok(std::fs::read_to_string(&log).ok().filter(|text| !text.is_empty())));
    assert_eq!(said.expect("polled").as_deref(), Some("hello\n"));
    assert_eq!(borrowed.lab.program("stubborn").expect("asked"), Some(recorded));

    std::fs::remove_file(&log).expect("removed");
    borrowed.down();
    assert!(!recorded.is_alive() && !unrecorded.is_alive());
}

#[test]
fn a_host_that_does_not_run_says_so() {
    let Some(_machine) = machine() else { return };
    let borrowed = Borrowed::new();
    let host = borrowed.lab.host(HostNumber::FIRST);
    let error = host.exec(&["true"]).expect_err("it does not run");
    assert!(matches!(error, LabError::HostDown(1)), "{error}");
    assert!(HostNumber::new(0).is_err());
    borrowed.down();
}
