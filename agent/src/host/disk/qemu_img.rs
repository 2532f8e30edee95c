//! What `qemu-img` is asked and what it answers; and the first bytes of a qcow2 file, which need no program.

use std::path::Path;

use nemordp_types::{Bytes, Failure, Reason, Template};
use serde::Deserialize;

/// What `qemu-img info --output=json` says of a disk.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    format: String,
    virtual_size: u64,
    #[serde(default)]
    encrypted: bool,
    backing_filename: Option<String>,
    format_specific: Option<FormatSpecific>,
}

#[derive(Debug, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: serde_json::Map<String, serde_json::Value>,
}

/// Whether the disk is what its manifest says and stands on its own: a template that names another file could make
/// every clone read that file of the node.
pub fn check_template(json: &str, template: &Template) -> Result<(), Failure> {
    let refuse = |what: &str| {
        Failure::new(Reason::TemplateDigestMismatch, format!("the template's disk {what}; build and register it again"))
            .with_field("template")
    };
    let info: Info = serde_json::from_str(json).map_err(|error| refuse("cannot be read").with_context(error))?;
    if info.format != "qcow2" {
        return Err(refuse("is not qcow2").with_context(format!("format {}", info.format)));
    }
    if info.encrypted {
        return Err(refuse("is encrypted"));
    }
    if let Some(file) = info.backing_filename {
        return Err(refuse("needs another file beneath it").with_context(file));
    }
    if info.format_specific.is_some_and(|specific| specific.data.contains_key("data-file")) {
        return Err(refuse("keeps its data in another file"));
    }
    if Bytes(info.virtual_size) != template.virtual_size {
        return Err(refuse("has another size than its manifest says")
            .with_context(format!("{} instead of {}", info.virtual_size, template.virtual_size)));
    }
    Ok(())
}

/// Arguments that make a linked clone of the given size: the format beneath is named, so that it is never guessed
/// from bytes that a guest wrote.
#[must_use]
pub fn create_overlay<'a>(template: &'a str, overlay: &'a str, size: &'a str) -> Vec<&'a str> {
    vec!["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", template, overlay, size]
}

/// Arguments that grow a disk; without `--shrink` the program refuses to make one smaller.
#[must_use]
pub fn grow<'a>(disk: &'a str, size: &'a str) -> Vec<&'a str> {
    vec!["resize", "-q", "-f", "qcow2", disk, size]
}

/// Size of the disk that a qcow2 header announces (the specification's bytes 0 to 31); none when it is not qcow2.
#[must_use]
pub fn virtual_size(header: &[u8]) -> Option<Bytes> {
    if header.get(..4)? != b"QFI\xfb" {
        return None;
    }
    let size: [u8; 8] = header.get(24..32)?.try_into().ok()?;
    Some(Bytes(u64::from_be_bytes(size)))
}

/// Reads the size from a file; zero when there is no file.
pub async fn virtual_size_of(path: &Path) -> Bytes {
    use tokio::io::AsyncReadExt;
    let mut header = [0u8; 32];
    let Ok(mut file) = tokio::fs::File::open(path).await else { return Bytes::ZERO };
    match file.read_exact(&mut header).await {
        Ok(_) => virtual_size(&header).unwrap_or(Bytes::ZERO),
        Err(_) => Bytes::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemordp_types::template::{Personalisation, RdpSecurity};
    use nemordp_types::{LoginName, TemplateDigest, TemplateName};

    fn template() -> Template {
        Template {
            name: TemplateName::new("debian").unwrap(),
            digest: TemplateDigest::from_bytes([1; 32]),
            file_size: Bytes(10),
            virtual_size: Bytes(4096),
            rdp_security: RdpSecurity::Tls,
            personalisation: Personalisation::GuestAgent,
            login_name: LoginName::new("user").unwrap(),
        }
    }

    #[test]
    fn a_disk_that_leans_on_another_file_is_no_template() {
        let good = r#"{"format":"qcow2","virtual-size":4096,"filename":"x","dirty-flag":false,
            "format-specific":{"type":"qcow2","data":{"compat":"1.1"}}}"#;
        check_template(good, &template()).unwrap();
        for bad in [
            r#"{"format":"raw","virtual-size":4096}"#,
            r#"{"format":"qcow2","virtual-size":4097}"#,
            r#"{"format":"qcow2","virtual-size":4096,"encrypted":true}"#,
            r#"{"format":"qcow2","virtual-size":4096,"backing-filename":"/etc/shadow"}"#,
            r#"{"format":"qcow2","virtual-size":4096,"format-specific":{"type":"qcow2","data":{"data-file":"/etc/shadow"}}}"#,
            "nonsense",
        ] {
            let failure = check_template(bad, &template()).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some("template"), "{bad}");
        }
    }

    #[test]
    fn the_header_gives_the_size() {
        let mut header = [0u8; 32];
        assert_eq!(virtual_size(&header), None);
        header[..4].copy_from_slice(b"QFI\xfb");
        header[24..].copy_from_slice(&4096u64.to_be_bytes());
        assert_eq!(virtual_size(&header), Some(Bytes(4096)));
        assert_eq!(virtual_size(&header[..20]), None);
    }
}
