//! The floor: the template as an overlay, the domain that the product would define, the password and the proof, by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nemordp_types::{InstanceId, MacAddr};

use super::guest::{self, answer};
use super::libvirt::Libvirt;
use super::{Batch, Sample, file_error, proof, qemu_seconds};
use crate::lab::{Host, HostNumber, Lab};
use crate::trial::Result;

const SETUP_LIMIT: Duration = Duration::from_secs(120);
/// The disk of the plan that the orders name.
const DISK: &str = "8G";
const FIRST_PORT: u16 = 20_000;

/// A second host, without an agent.
pub(super) struct BareHost {
    pub(super) host: Host,
    pub(super) template: PathBuf,
    pub(super) pool: PathBuf,
    /// Whether guests are emulated.
    pub(super) emulated: bool,
    domain: String,
}

/// One guest on it.
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) disk: PathBuf,
    pub(super) mac: MacAddr,
    pub(super) endpoint: SocketAddr,
    pub(super) id: InstanceId,
}

impl BareHost {
    /// Starts it, with the template, a network like the node's, and the domain that the node made for an instance.
    pub(super) fn prepare(lab: &Lab, node: &Host, instance: &str) -> Result<Self> {
        let domain = node.exec(&["virsh", "--quiet", "dumpxml", "--inactive", &format!("nemordp-{instance}")])?;
        let domain = domain.success()?.text();
        let host = lab.host(HostNumber::new(2)?);
        host.up()?;
        let pool = host.data_dir().join("pool");
        std::fs::create_dir_all(&pool).map_err(|source| file_error(&pool, source))?;
        let template = pool.join("template.qcow2");
        let built = find_template(&node.data_dir().join("pool/templates"))?;
        std::fs::copy(&built, &template).map_err(|source| file_error(&built, source))?;
        let made = Self { host, template, pool, emulated: domain.contains("<domain type='qemu'"), domain };
        made.network()?;
        Ok(made)
    }

    fn network(&self) -> Result<()> {
        let file = self.pool.join("network.xml");
        let hosts: Vec<String> = (0..super::AT_ONCE + 1)
            .map(|number| {
                format!("<host mac='{}' ip='{}'/>", MacAddr::of_private_ipv4(address(number)), address(number))
            })
            .collect();
        let xml = format!(
            "<network><name>bare</name><forward mode='open'/><bridge name='nemordp0' stp='off' delay='0'/>\
             <ip address='10.64.1.1' netmask='255.255.255.0'><dhcp>{}</dhcp></ip></network>",
            hosts.concat()
        );
        std::fs::write(&file, xml).map_err(|source| file_error(&file, source))?;
        let path = file.display().to_string();
        for command in [&["virsh", "--quiet", "net-define", &path][..], &["virsh", "--quiet", "net-start", "bare"]] {
            self.host.exec_within(SETUP_LIMIT, command)?.success()?;
        }
        let node = self.host.address()?;
        let forwards: Vec<String> = (0..super::AT_ONCE + 1)
            .map(|number| format!("{node} . {} : {} . 3389", port(number), address(number)))
            .collect();
        let rules = format!(
            "table ip bare {{\n\tmap forwards {{\n\t\ttype ipv4_addr . inet_service : ipv4_addr . inet_service\n\
             \t\telements = {{ {} }}\n\t}}\n\tchain forwarded {{\n\
             \t\ttype nat hook prerouting priority dstnat; policy accept;\n\
             \t\tdnat ip to ip daddr . tcp dport map @forwards\n\t}}\n}}\n",
            forwards.join(", ")
        );
        let file = self.pool.join("rules.nft");
        std::fs::write(&file, rules).map_err(|source| file_error(&file, source))?;
        self.host.exec(&["nft", "-f", &file.display().to_string()])?.success()?;
        self.host.exec(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?.success()?;
        Ok(())
    }

    pub(super) fn slot(&self, number: usize) -> Result<Slot> {
        let id = format!("00000000-0000-4000-8000-{number:012}").parse();
        let id = id.map_err(|failure| answer("a domain's id", &failure))?;
        Ok(Slot {
            name: format!("bare-{number}"),
            disk: self.pool.join(format!("bare-{number}.qcow2")),
            mac: MacAddr::of_private_ipv4(address(number)),
            endpoint: SocketAddr::from((self.host.address()?, port(number))),
            id,
        })
    }

    /// So many at once, each to its proof; removes them again.
    pub(super) fn batch(&self, count: usize) -> Result<Batch> {
        let connections: Vec<Libvirt> =
            (0..count).map(|_| Libvirt::open(&self.host.libvirt_uri())).collect::<Result<_>>()?;
        let started = Instant::now();
        let outcomes: Vec<Result<Sample>> = std::thread::scope(|scope| {
            let running: Vec<_> = connections
                .into_iter()
                .enumerate()
                .map(|(number, libvirt)| scope.spawn(move || self.one(number, &libvirt)))
                .collect();
            let panicked = || Err(answer("a thread", &"it panicked"));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let makespan = started.elapsed();
        for number in 0..count {
            self.remove(&self.slot(number)?)?;
        }
        Ok(Batch { samples: outcomes.into_iter().collect::<Result<_>>()?, makespan })
    }

    fn one(&self, number: usize, libvirt: &Libvirt) -> Result<Sample> {
        let slot = self.slot(number)?;
        let started = Instant::now();
        let template = self.template.display().to_string();
        let disk = slot.disk.display().to_string();
        let create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &template, &disk, DISK];
        self.host.exec(&create)?.success()?;
        libvirt.create(&self.domain_of(&slot))?;
        self.to_the_proof(&slot, libvirt, started, "overlay and start")
    }

    /// From a guest that was started to its proven login.
    pub(super) fn to_the_proof(&self, slot: &Slot, libvirt: &Libvirt, began: Instant, first: &str) -> Result<Sample> {
        let mut steps = vec![(first.to_owned(), began.elapsed())];
        let mut at = Instant::now();
        let mut step = |name: &str| {
            steps.push((name.to_owned(), at.elapsed()));
            at = Instant::now();
        };
        guest::wait_for_agent(libvirt, slot.id)?;
        step("guest agent");
        let certificate = guest::certificate(libvirt, slot.id)?;
        step("certificate");
        let credential = guest::set_password(libvirt, slot.id)?;
        step("password");
        let why = || guest::last_refusal(libvirt, slot.id, &credential.login_name);
        proof::accepted(slot.endpoint, certificate, &credential, &why)?;
        step("proof");
        let total = began.elapsed();
        let qemu = qemu_seconds(&self.host, &slot.name)?.unwrap_or_default();
        Ok(Sample { steps, total, qemu: Duration::from_secs_f64(qemu) })
    }

    pub(super) fn remove(&self, slot: &Slot) -> Result<()> {
        // Either may be gone already.
        self.host.exec(&["virsh", "--quiet", "destroy", &slot.name])?;
        self.host.exec(&["virsh", "--quiet", "undefine", &slot.name])?;
        match std::fs::remove_file(&slot.disk) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(file_error(&slot.disk, source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The node's domain under another name, with another disk and card.
    pub(super) fn domain_of(&self, slot: &Slot) -> String {
        let xml = without(&self.domain, "<metadata>", "</metadata>");
        let xml = replaced(&xml, "<name>", "</name>", &slot.name);
        let xml = replaced(&xml, "<uuid>", "</uuid>", &slot.id.to_string());
        let xml = replaced(&xml, "<source file='", "'", &slot.disk.display().to_string());
        let xml = replaced(&xml, "<mac address='", "'", &slot.mac.to_string());
        replaced(&xml, "<target dev='ndt", "'", &format!("-{}", slot.name))
    }
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 64, 1, u8::try_from(number).unwrap_or(u8::MAX).saturating_add(10))
}

fn port(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX).saturating_add(FIRST_PORT)
}

fn find_template(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(|source| file_error(folder, source))?;
    let mut files = entries.filter_map(std::result::Result::ok).map(|entry| entry.path());
    let found = files.find(|path| path.extension().is_some_and(|extension| extension == "qcow2"));
    found.ok_or_else(|| answer("the node's template", &"there is none"))
}

/// The text with what stands between the first `open` and the next `close` exchanged.
fn replaced(text: &str, open: &str, close: &str, value: &str) -> String {
    let Some((before, rest)) = text.split_once(open) else { return text.to_owned() };
    let Some((_, after)) = rest.split_once(close) else { return text.to_owned() };
    format!("{before}{open}{value}{close}{after}")
}

/// The text without what stands from the first `open` to the next `close`.
fn without(text: &str, open: &str, close: &str) -> String {
    let Some((before, rest)) = text.split_once(open) else { return text.to_owned() };
    let Some((_, after)) = rest.split_once(close) else { return text.to_owned() };
    format!("{before}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_description_are_exchanged() {
        assert_eq!(replaced("<name>a</name><name>b</name>", "<name>", "</name>", "c"), "<name>c</name><name>b</name>");
        assert_eq!(without("<a/><metadata>x</metadata><b/>", "<metadata>", "</metadata>"), "<a/><b/>");
        assert_eq!(replaced("<a/>", "<name>", "</name>", "c"), "<a/>");
    }
}
