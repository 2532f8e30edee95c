//! Disks with the real `qemu-img`: templates are checked, clones are linked, grown, repeated, refused and removed.
#![cfg(feature = "libvirt")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where it cannot go on, and says what it skips"
)]
#![expect(clippy::disallowed_methods, reason = "the tests make their disks with qemu-img themselves")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nemordp_agent::host::disk::{DiskSettings, Disks, PoolSettings};
use nemordp_types::instance::{DiskSet, Edition};
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{Bytes, InstanceId, LoginName, Reason, StorageClass, Template, TemplateDigest, TemplateName};
use uuid::Uuid;

/// The disk that an order has made.
const FIRST: Edition = Edition(0);

fn qemu_img(arguments: &[&str]) -> bool {
    match Command::new("qemu-img").args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => {
            println!("skipped: qemu-img is not installed");
            false
        }
    }
}

fn settings(directory: &Path, keep_free: u64) -> DiskSettings {
    DiskSettings {
        template_dir: directory.join("templates"),
        pools: vec![PoolSettings { storage_class: ssd(), path: directory.join("ssd"), clone_width: 2 }],
        qemu_img: "qemu-img".into(),
        owner: None,
        keep_free: Bytes(keep_free),
    }
}

fn ssd() -> StorageClass {
    StorageClass::new("ssd").unwrap()
}

fn id(number: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(number))
}

fn template(file_size: u64) -> Template {
    Template {
        name: TemplateName::new("debian").unwrap(),
        digest: TemplateDigest::from_bytes([7; 32]),
        file_size: Bytes(file_size),
        virtual_size: Bytes(64 << 20),
        rdp_security: RdpSecurity::Tls,
        personalisation: Personalisation::GuestAgent,
        login_name: LoginName::new("user").unwrap(),
    }
}

/// Makes a template's file as it comes from the control plane; none without `qemu-img`.
async fn with_template(directory: &Path) -> Option<(Disks, Template)> {
    let disks = Disks::open(&settings(directory, 1)).await.unwrap();
    let path = disks.template_path(TemplateDigest::from_bytes([7; 32]));
    if !qemu_img(&["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "64M"]) {
        return None;
    }
    let template = template(std::fs::metadata(&path).unwrap().len());
    Some((disks, template))
}

#[tokio::test]
async fn a_clone_is_linked_grown_made_once_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let Some((disks, template)) = with_template(directory.path()).await else { return };
    let size = Bytes(128 << 20);
    let early = disks.clone_template(id(1), &ssd(), FIRST, &template, size).await.unwrap_err();
    assert_eq!(early.reason, Reason::TemplateMissing, "a file that was not adopted is no template");
    assert!(disks.template_list().await.unwrap().is_empty());
    disks.template_adopt(&template).await.unwrap();
    assert_eq!(disks.template_list().await.unwrap(), [template.digest]);
    let files = disks.files(id(1), &ssd(), FIRST).unwrap();
    disks.clone_template(id(1), &ssd(), FIRST, &template, size).await.unwrap();
    let first = std::fs::read(&files.disk).unwrap();
    disks.clone_template(id(1), &ssd(), FIRST, &template, size).await.unwrap();
    assert_eq!(std::fs::read(&files.disk).unwrap(), first, "the second call changes nothing");
    let info = Command::new("qemu-img").args(["info", "--output=json"]).arg(&files.disk).output().unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["virtual-size"], 128 << 20);
    assert_eq!(info["backing-filename-format"], "qcow2");
    disks.write_seed(id(1), &ssd(), b"seed").await.unwrap();
    for _ in 0..2 {
        disks.delete(id(1), &ssd()).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path().join("ssd")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_disk_is_grown_never_shrunk_and_the_ones_that_nobody_needs_go() {
    let directory = tempfile::tempdir().unwrap();
    let Some((disks, template)) = with_template(directory.path()).await else { return };
    disks.template_adopt(&template).await.unwrap();
    let (small, large) = (Bytes(128 << 20), Bytes(256 << 20));
    let size = async |edition| {
        let file = disks.files(id(1), &ssd(), edition).unwrap().disk;
        nemordp_agent::host::disk::qemu_img::virtual_size_of(&file).await
    };
    for edition in [FIRST, Edition(4), Edition(9)] {
        disks.clone_template(id(1), &ssd(), edition, &template, small).await.unwrap();
    }
    disks.clone_template(id(2), &ssd(), FIRST, &template, small).await.unwrap();
    for wanted in [large, large, small] {
        disks.grow(id(1), &ssd(), Edition(4), wanted).await.unwrap();
        assert_eq!(size(Edition(4)).await, large, "a disk never shrinks");
    }
    assert_eq!(size(FIRST).await, small, "only the one that was meant grew");
    assert_eq!(disks.editions(id(1), &ssd()).await.unwrap(), [FIRST, Edition(4), Edition(9)]);
    let needed = DiskSet { system: Edition(4), rescue: None, kept: Some(FIRST) };
    for _ in 0..2 {
        disks.tidy(id(1), &ssd(), &needed).await.unwrap();
        assert_eq!(disks.editions(id(1), &ssd()).await.unwrap(), [FIRST, Edition(4)]);
    }
    disks.delete(id(1), &ssd()).await.unwrap();
    assert!(disks.editions(id(1), &ssd()).await.unwrap().is_empty());
    assert_eq!(disks.editions(id(2), &ssd()).await.unwrap(), [FIRST], "another instance's disk stays");
}

#[tokio::test]
async fn many_clones_at_once_all_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let Some((disks, template)) = with_template(directory.path()).await else { return };
    disks.template_adopt(&template).await.unwrap();
    let disks = Arc::new(disks);
    let clones: Vec<_> = (0..12)
        .map(|number| {
            let (disks, template) = (Arc::clone(&disks), template.clone());
            tokio::spawn(
                async move { disks.clone_template(id(number), &ssd(), FIRST, &template, Bytes(64 << 20)).await },
            )
        })
        .collect();
    for clone in clones {
        clone.await.unwrap().unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path().join("ssd")).unwrap().count(), 12);
}

#[tokio::test]
async fn what_cannot_be_cloned_says_which_field_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some((disks, template)) = with_template(directory.path()).await else { return };
    disks.template_adopt(&template).await.unwrap();
    let small = disks.clone_template(id(1), &ssd(), FIRST, &template, Bytes(1 << 20)).await.unwrap_err();
    assert_eq!((small.reason, small.field.as_deref()), (Reason::DiskTooSmall, Some("disk")));
    let tape = StorageClass::new("tape").unwrap();
    let unknown = disks.clone_template(id(1), &tape, FIRST, &template, Bytes(64 << 20)).await.unwrap_err();
    assert_eq!(unknown.field.as_deref(), Some("storage_class"));
    let full = Disks::open(&settings(directory.path(), u64::MAX)).await.unwrap();
    let failure = full.clone_template(id(1), &ssd(), FIRST, &template, Bytes(64 << 20)).await.unwrap_err();
    assert_eq!((failure.reason, failure.field.as_deref()), (Reason::DiskFull, Some("storage_class")));
    assert_eq!(std::fs::read_dir(directory.path().join("ssd")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_template_that_is_not_what_it_says_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let Some((disks, good)) = with_template(directory.path()).await else { return };
    let longer = Template { file_size: Bytes(good.file_size.0 + 1), ..good.clone() };
    assert_eq!(disks.template_adopt(&longer).await.unwrap_err().reason, Reason::TemplateTruncated);
    let larger = Template { virtual_size: Bytes(65 << 20), ..good.clone() };
    assert_eq!(disks.template_adopt(&larger).await.unwrap_err().reason, Reason::TemplateDigestMismatch);
    let absent = Template { digest: TemplateDigest::from_bytes([8; 32]), ..good.clone() };
    assert_eq!(disks.template_adopt(&absent).await.unwrap_err().reason, Reason::TemplateMissing);
    let leaning = disks.template_path(TemplateDigest::from_bytes([9; 32]));
    let base = disks.template_path(good.digest);
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base.to_str().unwrap(), leaning.to_str().unwrap()]);
    let file_size = Bytes(std::fs::metadata(&leaning).unwrap().len());
    let leaning = Template { digest: TemplateDigest::from_bytes([9; 32]), file_size, ..good };
    assert_eq!(disks.template_adopt(&leaning).await.unwrap_err().reason, Reason::TemplateDigestMismatch);
    assert!(disks.template_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_interrupted_clone_is_cleared_away_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let pool = directory.path().join("ssd");
    std::fs::create_dir(&pool).unwrap();
    std::fs::write(pool.join(format!("{}.qcow2.part", id(1))), "half").unwrap();
    for kept in ["somebody.part".to_owned(), format!("{}.qcow2", id(2))] {
        std::fs::write(pool.join(kept), "kept").unwrap();
    }
    Disks::open(&settings(directory.path(), 1)).await.unwrap();
    assert_eq!(std::fs::read_dir(&pool).unwrap().count(), 2);
}
