//! One instance's whole life on a real libvirt with a real guest, step by step through the `Host` trait.
//!
//! Runs inside a node (best a simulated one) when `NEMORDP_LIVE_TEMPLATE` names a directory with a template's manifest
//! (`*.json`) and disk (`*.qcow2`), `NEMORDP_LIVE_DIR` one for disks, and `NEMORDP_LIVE_ADDRESS` the node's public
//! IPv4; skips, with a line that says so, otherwise. Prints the seconds of each step.
#![cfg(feature = "libvirt")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where it cannot go on, and says what it skips"
)]
#![expect(clippy::disallowed_methods, reason = "a live run measures with the real clock and starts a real RDP client")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nemordp_agent::host::disk::{DiskSettings, PoolSettings};
use nemordp_agent::host::libvirt::{LibvirtHost, LibvirtSettings};
use nemordp_agent::host::network::NetworkSettings;
use nemordp_agent::host::{Binding, Host};
use nemordp_types::guest::{AccountState, LoginRefusal};
use nemordp_types::instance::{DesiredPower, DiskSet, GuestSpec, InstanceSpec, Mark, NetworkSpec, ObservedPower};
use nemordp_types::node::{Acceleration, EndpointPool};
use nemordp_types::{
    Bytes, Endpoint, Failure, Generation, HostName, InstallationId, InstanceId, KeyboardLayout, LoginName, MacAddr,
    MiB, OrderId, Reason, StorageClass, Template, TimeZoneName, Vcpu,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

struct Place {
    template: Template,
    disk: PathBuf,
    directory: PathBuf,
    address: Ipv4Addr,
}

fn place() -> Option<Place> {
    let value = |name: &str| std::env::var(name).ok();
    let (Some(template), Some(directory), Some(address)) =
        (value("NEMORDP_LIVE_TEMPLATE"), value("NEMORDP_LIVE_DIR"), value("NEMORDP_LIVE_ADDRESS"))
    else {
        println!("skipped: NEMORDP_LIVE_TEMPLATE, NEMORDP_LIVE_DIR and NEMORDP_LIVE_ADDRESS name no live node");
        return None;
    };
    let of = |ending: &str| {
        let entries = std::fs::read_dir(&template).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|path| path.extension().is_some_and(|found| found == ending)).unwrap()
    };
    let manifest = std::fs::read_to_string(of("json")).unwrap();
    Some(Place {
        template: serde_json::from_str(&manifest).unwrap(),
        disk: of("qcow2"),
        directory: directory.into(),
        address: address.parse().unwrap(),
    })
}

fn ssd() -> StorageClass {
    StorageClass::new("ssd").unwrap()
}

async fn open(place: &Place) -> LibvirtHost {
    let disks = DiskSettings {
        template_dir: place.directory.join("templates"),
        pools: vec![PoolSettings { storage_class: ssd(), path: place.directory.join("ssd"), clone_width: 2 }],
        qemu_img: "/usr/bin/qemu-img".into(),
        owner: Some("libvirt-qemu".to_owned()),
        keep_free: Bytes(64 << 20),
    };
    let settings = LibvirtSettings::new(Acceleration::Tcg, disks);
    let endpoints = EndpointPool { address: place.address.into(), first_port: 40000, last_port: 40100 };
    let network = NetworkSettings::new("10.64.0.0/24".parse().unwrap(), endpoints);
    LibvirtHost::with_settings(settings, network, InstallationId::from_uuid(Uuid::from_u128(1))).await.unwrap()
}

fn instance(place: &Place, number: u8) -> (Mark, InstanceSpec) {
    let order_id = OrderId::from_uuid(Uuid::from_u128(0x300 + u128::from(number)));
    let mark = Mark {
        installation_id: InstallationId::from_uuid(Uuid::from_u128(1)),
        instance_id: InstanceId::from_uuid(Uuid::from_u128(0x200 + u128::from(number))),
        order_id,
        generation: Generation(1),
    };
    let private_ipv4 = Ipv4Addr::new(10, 64, 0, number);
    let spec = InstanceSpec {
        order_id,
        vcpu: Vcpu(1),
        memory: MiB(1024),
        disk: nemordp_types::GiB(6),
        storage_class: ssd(),
        template: place.template.clone(),
        network: NetworkSpec {
            mac: MacAddr::of_private_ipv4(private_ipv4),
            private_ipv4,
            endpoint: Endpoint { address: place.address.into(), port: 40000 + u16::from(number) },
        },
        guest: GuestSpec {
            host_name: HostName::new(format!("desk-{number}")).unwrap(),
            login_name: place.template.login_name.clone(),
            time_zone: Some(TimeZoneName::new("Europe/Berlin").unwrap()),
            keyboard: Some(KeyboardLayout::new("ch(fr)").unwrap()),
        },
        power: DesiredPower::On,
        suspended: false,
        disks: DiskSet::default(),
        gpus: None,
    };
    (mark, spec)
}

/// Prints how long each step took.
struct Laps {
    begin: Instant,
    last: Instant,
}

impl Laps {
    fn start() -> Self {
        Self { begin: Instant::now(), last: Instant::now() }
    }

    fn lap(&mut self, what: &str) {
        let now = Instant::now();
        println!("{:8.3} s {:8.3} s  {what}", (now - self.last).as_secs_f64(), (now - self.begin).as_secs_f64());
        self.last = now;
    }
}

/// Asks until the answer is there; the waits are short, because they are what is measured.
async fn until<T, F: Future<Output = Result<Option<T>, Failure>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        let answer = ask().await;
        if let Ok(Some(value)) = answer {
            return value;
        }
        assert!(Instant::now() < end, "{what} does not come: {:?}", answer.err());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn make(host: &LibvirtHost, mark: &Mark, spec: &InstanceSpec, laps: &mut Laps) {
    host.disk_clone(mark.instance_id, spec).await.unwrap();
    laps.lap("clone");
    host.domain_define(mark, spec).await.unwrap();
    laps.lap("define");
    host.network_add(&Binding { instance_id: mark.instance_id, network: spec.network }).await.unwrap();
    laps.lap("network");
    host.domain_start(mark.instance_id).await.unwrap();
    laps.lap("start");
}

async fn prepare(host: &LibvirtHost, id: InstanceId, spec: &InstanceSpec, password: &SecretString, laps: &mut Laps) {
    let second = Duration::from_secs(1);
    until("the agent", || async { host.guest_ping(id, second).await.map(Some) }).await;
    laps.lap("agent answers");
    let address = until("the address", || host.guest_address(id)).await;
    assert_eq!(address.ipv4, spec.network.private_ipv4);
    laps.lap("address confirmed");
    host.guest_personalise(id, &spec.guest).await.unwrap();
    laps.lap("personalised");
    until("RDP", || async { host.guest_rdp_answers(id, second).await.map(|answers| answers.then_some(())) }).await;
    laps.lap("RDP answers");
    until("the certificate", || host.guest_rdp_certificate(id)).await;
    laps.lap("certificate read");
    host.guest_set_password(id, &spec.guest.login_name, password).await.unwrap();
    laps.lap("password set");
}

fn log_in(place: &Place, spec: &InstanceSpec, password: &str, shell: &str) -> Option<Child> {
    if !Path::new("/usr/bin/xfreerdp").exists() {
        println!("skipped: no xfreerdp, so no session is opened");
        return None;
    }
    let client = Command::new("xvfb-run")
        .args(["-a", "xfreerdp", "/cert:ignore", "/log-level:ERROR"])
        .arg(format!("/v:{}:{}", place.address, spec.network.endpoint.port))
        .args([format!("/u:{}", spec.guest.login_name), format!("/p:{password}"), format!("/shell:{shell}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Some(client.unwrap())
}

async fn sessions(
    place: &Place,
    host: &LibvirtHost,
    id: InstanceId,
    spec: &InstanceSpec,
    password: &str,
    laps: &mut Laps,
) {
    let login = &spec.guest.login_name;
    let before = Timestamp::now();
    let Some(mut wrong) = log_in(place, spec, "wrong", "sleep 20") else { return };
    let refused = || async {
        Ok(host.guest_account(id, login, before).await?.last_refusal.filter(|r| *r == LoginRefusal::Authentication))
    };
    until("the refusal in the log", refused).await;
    laps.lap("wrong password: refusal read in the guest");
    let _ = wrong.kill();
    let _ = wrong.wait();
    for (shell, proof_only) in [("sleep 20", true), ("xterm", false)] {
        let mut client = log_in(place, spec, password, shell).unwrap();
        let open = || async { Ok(host.guest_sessions(id).await?.into_iter().next()) };
        let session = until("the session", open).await;
        println!("session {} of {} since {:?}", session.id, session.login_name, session.started_at);
        laps.lap("session seen");
        host.guest_end_sessions(id, login, proof_only).await.unwrap();
        laps.lap("session ended");
        assert!(host.guest_sessions(id).await.unwrap().is_empty());
        let _ = client.kill();
        let _ = client.wait();
    }
}

/// What a call costs once the guest has settled.
async fn repeat(host: &LibvirtHost, id: InstanceId, spec: &InstanceSpec, laps: &mut Laps) {
    let login = &spec.guest.login_name;
    for _ in 0..3 {
        host.guest_ping(id, Duration::from_secs(5)).await.unwrap();
        laps.lap("again: ping");
        host.guest_personalise(id, &spec.guest).await.unwrap();
        laps.lap("again: personalise");
        host.guest_account(id, login, Timestamp::now()).await.unwrap();
        laps.lap("again: account");
        host.guest_sessions(id).await.unwrap();
        laps.lap("again: sessions");
        host.guest_end_sessions(id, login, false).await.unwrap();
        laps.lap("again: end of no sessions");
        host.guest_rdp_certificate(id).await.unwrap();
        laps.lap("again: certificate");
    }
}

/// Cuts libvirt's daemon while the guest runs: calls go on, the guest has noticed nothing.
async fn survive_the_daemon(host: &LibvirtHost, id: InstanceId, laps: &mut Laps) {
    let Ok(pid) = std::fs::read_to_string("/run/libvirtd.pid") else {
        println!("skipped: no /run/libvirtd.pid, so libvirt's daemon is not cut");
        return;
    };
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let found = host.instance_find(id).await.unwrap().unwrap();
    assert_eq!(found.power, ObservedPower::Running);
    laps.lap("libvirt's daemon killed: instance found again");
    // The new daemon connects to the guest's agent only after it has taken the guest over.
    until("the agent", || async { host.guest_ping(id, Duration::from_secs(2)).await.map(Some) }).await;
    laps.lap("and its agent answers");
}

async fn remove(host: &LibvirtHost, id: InstanceId, laps: &mut Laps) {
    for _ in 0..2 {
        host.domain_destroy(id).await.unwrap();
        host.network_remove(id).await.unwrap();
        host.domain_undefine(id).await.unwrap();
        host.disk_delete(id, &ssd()).await.unwrap();
    }
    laps.lap("removed");
    assert_eq!(host.instance_find(id).await.unwrap(), None);
}

#[tokio::test]
async fn an_instance_lives_from_clone_to_removal() {
    let Some(place) = place() else { return };
    let host = open(&place).await;
    let target = host.template_path(place.template.digest);
    if !target.exists() {
        std::fs::copy(&place.disk, &target).unwrap();
    }
    let mut laps = Laps::start();
    host.template_adopt(&place.template).await.unwrap();
    laps.lap("template adopted");
    host.network_rebuild(&[]).await.unwrap();
    laps.lap("network built");
    host.network_rebuild(&[]).await.unwrap();
    laps.lap("network built again (nothing to do)");
    let (mark, spec) = instance(&place, 2);
    let id = mark.instance_id;
    let password = SecretString::from("Gruene-Wiese.42");
    make(&host, &mark, &spec, &mut laps).await;
    prepare(&host, id, &spec, &password, &mut laps).await;
    let account = host.guest_account(id, &spec.guest.login_name, Timestamp::now()).await.unwrap();
    assert_eq!((account.state, account.last_refusal), (AccountState::Usable, None));
    laps.lap("account read");
    let nobody = LoginName::new("nobody-here").unwrap();
    let absent = host.guest_account(id, &nobody, Timestamp::now()).await.unwrap();
    assert_eq!(absent.state, AccountState::Missing);
    let refused = host.guest_set_password(id, &nobody, &password).await.unwrap_err();
    assert_eq!((refused.reason, refused.field.as_deref()), (Reason::GuestAgentFailure, Some("login_name")));
    let mars = GuestSpec { time_zone: Some(TimeZoneName::new("Mars/Olympus").unwrap()), ..spec.guest.clone() };
    assert_eq!(host.guest_personalise(id, &mars).await.unwrap_err().field.as_deref(), Some("time_zone"));
    laps.lap("bad account and zone refused");
    sessions(&place, &host, id, &spec, password.expose_secret(), &mut laps).await;
    repeat(&host, id, &spec, &mut laps).await;
    survive_the_daemon(&host, id, &mut laps).await;
    let counters = host.counters().await.unwrap();
    println!("{counters:?}");
    assert!(
        counters
            .iter()
            .any(|(found, c)| *found == id && c.cpu_ns > 0 && c.memory_bytes > 0 && c.network_sent_bytes > 0)
    );
    laps.lap("counters");
    let second = open(&place).await;
    let found = second.instance_find(id).await.unwrap().unwrap();
    assert_eq!((found.mark, &found.spec, found.power), (mark, &spec, ObservedPower::Running));
    assert_eq!(found.disk, Bytes(6 << 30));
    println!("started at {:?}; inventory {:?}", found.started_at, second.inventory().await.unwrap());
    laps.lap("read back by a second agent");
    host.domain_shutdown(id).await.unwrap();
    laps.lap("shutdown asked");
    until("the guest's end", || async {
        Ok(host.instance_find(id).await?.filter(|found| found.power == ObservedPower::Off))
    })
    .await;
    laps.lap("guest is off");
    remove(&host, id, &mut laps).await;
}
