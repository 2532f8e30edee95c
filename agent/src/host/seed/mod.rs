//! First-boot settings for cloud-init: a `NoCloud` volume (label CIDATA) with host name, account, time zone, keyboard.
//!
//! No password is in it: passwords go through the guest agent only, so that none lies on the node's disk.

use std::io::{Cursor, Write};

use fatfs::{Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use nemordp_types::instance::GuestSpec;
use nemordp_types::{Failure, InstanceId};
use serde_json::json;

/// Size of the volume: the smallest that every FAT reader takes.
const VOLUME_BYTES: usize = 1 << 20;

/// The same seed gives the same bytes: its files carry a fixed time.
#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date { year: 2000, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// `user-data`: JSON is YAML, and quotes every value.
#[must_use]
pub fn user_data(guest: &GuestSpec) -> String {
    let mut data = json!({
        "hostname": guest.host_name,
        "preserve_hostname": false,
        "manage_etc_hosts": "localhost",
        "ssh_pwauth": false,
        "users": [{
            "name": guest.login_name,
            "groups": ["sudo"],
            "shell": "/bin/bash",
            "lock_passwd": true,
        }],
    });
    if let Some(zone) = &guest.time_zone {
        data["timezone"] = json!(zone);
    }
    if let Some(keyboard) = &guest.keyboard {
        let (layout, variant) = super::guest::layout_and_variant(keyboard);
        data["keyboard"] = json!({ "layout": layout, "variant": variant });
    }
    format!("#cloud-config\n{data}\n")
}

/// `meta-data`: the instance id makes cloud-init run once per instance; `local` lets it run before the network is up.
#[must_use]
pub fn meta_data(instance: InstanceId, guest: &GuestSpec) -> String {
    format!("{}\n", json!({ "instance-id": instance, "local-hostname": guest.host_name, "dsmode": "local" }))
}

/// The volume's bytes.
pub fn image(instance: InstanceId, guest: &GuestSpec) -> Result<Vec<u8>, Failure> {
    let mut volume = Cursor::new(vec![0u8; VOLUME_BYTES]);
    fatfs::format_volume(&mut volume, FormatVolumeOptions::new().volume_label(*b"CIDATA     ").volume_id(1))
        .map_err(Failure::internal)?;
    {
        let files =
            FileSystem::new(&mut volume, FsOptions::new().time_provider(&FixedTime)).map_err(Failure::internal)?;
        let root = files.root_dir();
        for (name, text) in [("user-data", user_data(guest)), ("meta-data", meta_data(instance, guest))] {
            let mut file = root.create_file(name).map_err(Failure::internal)?;
            file.write_all(text.as_bytes()).map_err(Failure::internal)?;
        }
    }
    Ok(volume.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemordp_types::{HostName, KeyboardLayout, LoginName, TimeZoneName};
    use std::io::Read;

    fn guest() -> GuestSpec {
        GuestSpec {
            host_name: HostName::new("desk-1").unwrap(),
            login_name: LoginName::new("user").unwrap(),
            time_zone: Some(TimeZoneName::new("Europe/Berlin").unwrap()),
            keyboard: Some(KeyboardLayout::new("ch(fr)").unwrap()),
        }
    }

    #[test]
    fn the_volume_holds_both_files_and_is_the_same_every_time() {
        let id = InstanceId::from_uuid(uuid::Uuid::from_u128(7));
        let bytes = image(id, &guest()).unwrap();
        assert_eq!(bytes, image(id, &guest()).unwrap());
        let files = FileSystem::new(Cursor::new(bytes), FsOptions::new()).unwrap();
        assert_eq!(files.volume_label(), "CIDATA");
        let mut text = String::new();
        files.root_dir().open_file("user-data").unwrap().read_to_string(&mut text).unwrap();
        assert!(text.starts_with("#cloud-config\n"));
        let data: serde_json::Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        assert_eq!(data["hostname"], "desk-1");
        assert_eq!(data["timezone"], "Europe/Berlin");
        assert_eq!(data["keyboard"]["variant"], "fr");
        assert!(data.to_string().find("passwd\":\"").is_none(), "no password in the seed");
    }
}
