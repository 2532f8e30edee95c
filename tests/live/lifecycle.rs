//! What a customer does with a desktop after it was handed over, on a real guest.

use nemordp_tests::trial::Delivered;
use serde_json::{Value, json};

use crate::Installation;
use crate::agent::{answers_rdp, boot_id, wait_until};
use crate::isolation::{domain, in_guest};

/// Tries every partition that does not belong to the disk of the running system.
const READ_FROM_OTHER_DISKS: &str = r#"mkdir -p /mnt/own
own=$(lsblk -no PKNAME "$(findmnt -no SOURCE /)")
for part in $(lsblk -rpno NAME,TYPE | awk '$2 == "part" { print $1 }'); do
  case $part in /dev/$own*) continue ;; esac
  mount -o ro "$part" /mnt/own 2>/dev/null || continue
  cat /mnt/own/home/user/mine
  umount /mnt/own
done"#;

struct Desk<'a> {
    installation: &'a Installation,
    desktop: &'a Delivered,
}

impl Desk<'_> {
    fn done(&self, words: &[&str]) -> Value {
        let all = [&["instance", words[0], &self.desktop.instance][..], &words[1..], &["--watch"]].concat();
        self.installation.cli().json(&all).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn show(&self) -> Value {
        self.installation.cli().json(&["instance", "show", &self.desktop.instance]).unwrap()
    }

    fn inside(&self, line: &str) -> String {
        in_guest(&self.installation.host(), &domain(&self.desktop.instance), line).1.trim().to_owned()
    }

    fn answers(&self) -> bool {
        answers_rdp(self.desktop.endpoint)
    }

    fn disks(&self) -> usize {
        let host = self.installation.host();
        let pool = host.data_dir().join("pool").display().to_string();
        let name = format!("*{}*.qcow2", self.desktop.instance);
        host.exec(&["find", &pool, "-name", &name]).unwrap().success().unwrap().text().lines().count()
    }
}

/// Each is done, keeps what it has to keep, and the endpoint stays.
pub(crate) fn every_wish_comes_true_on_a_real_guest(installation: &Installation, desktop: &Delivered) {
    let desk = Desk { installation, desktop };
    desk.inside("echo kept > /home/user/mine; sync");

    desk.done(&["rename", "--host-name", "desk-2"]);
    assert_eq!(desk.inside("hostname"), "desk-2");

    installation.phase("suspended and back");
    let boot = boot_id(installation, &desktop.instance);
    desk.done(&["suspend"]);
    let ruleset = installation.host().exec(&["nft", "list", "ruleset"]).unwrap().success().unwrap().text();
    assert!(!ruleset.contains(&format!(". {} :", desktop.endpoint.port())), "off the network:\n{ruleset}");
    wait_until("the node to say that it is off power", || desk.show()["power"] == json!("off"));
    assert!(!desk.answers());
    desk.done(&["unsuspend"]);
    wait_until("the desktop after its suspension", || desk.answers());
    assert_ne!(boot_id(installation, &desktop.instance), boot);
    assert_eq!(desk.inside("cat /home/user/mine"), "kept");

    installation.phase("larger");
    desk.done(&["resize", "--disk-gib", "10", "--memory-mib", "1280"]);
    wait_until("the larger desktop", || desk.answers());
    let gib = desk.inside("lsblk --bytes --nodeps --noheadings --output SIZE /dev/vda");
    assert_eq!(gib.parse::<u64>().unwrap() >> 30, 10, "the disk has grown");
    assert_eq!(desk.inside("cat /home/user/mine"), "kept");
    assert!(
        desk.done_badly(&["resize", "--disk-gib", "9"]).contains("disk_gib"),
        "it only grows, and the field is named"
    );

    installation.phase("rescued and back");
    desk.done(&["rescue"]);
    assert_eq!(desk.disks(), 2, "the rescue system has a disk of its own");
    assert_eq!(desk.inside(READ_FROM_OTHER_DISKS), "kept", "it sees the customer's disk");
    desk.done(&["unrescue"]);
    wait_until("the desktop after its rescue", || desk.answers());
    assert_eq!(desk.inside("cat /home/user/mine"), "kept");
    assert_eq!(desk.disks(), 1);

    installation.phase("begun anew");
    desk.done(&["reinstall"]);
    assert_eq!(desk.inside("cat /home/user/mine 2>/dev/null || echo fresh"), "fresh");
    assert_eq!(desk.disks(), 1, "the old disk is gone");
    assert_eq!(desk.show()["endpoint_port"], json!(desktop.endpoint.port()), "the endpoint stays");

    installation.phase("deleted with grace and had back");
    desk.done(&["delete", "--grace-seconds", "3600"]);
    assert!(!desk.answers());
    desk.done(&["restore"]);
    wait_until("the desktop that was had back", || desk.answers());
    assert_eq!(installation.cli().json(&["audit"]).unwrap()["findings"], json!([]));
}

impl Desk<'_> {
    fn done_badly(&self, words: &[&str]) -> String {
        let all = [&["instance", words[0], &self.desktop.instance][..], &words[1..]].concat();
        self.installation.cli().json(&all).expect_err("it is refused").to_string()
    }
}
