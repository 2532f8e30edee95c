//! What the operator decides about traces: the table `[telemetry]` of both programs.

use std::path::PathBuf;

use http::Uri;
use http::uri::Scheme;
use nemordp_types::Failure;
use serde::Deserialize;

/// The table `[telemetry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The collector that takes OTLP over gRPC, `http://host:4317` or `https://…`; nothing is exported when absent.
    pub otlp_endpoint: Option<String>,
    /// Share of the traces begun here that are kept, 0 to 1; one that comes with a request is kept as its sender does.
    pub sampling_ratio: f64,
    /// How the collector shows this program; the program's name when absent.
    pub service_name: Option<String>,
    /// CA of the collector's certificate (PEM); the system's CAs when absent.
    pub ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { otlp_endpoint: None, sampling_ratio: 1.0, service_name: None, ca_file: None }
    }
}

impl Settings {
    /// Refuses what cannot be used.
    ///
    /// # Errors
    /// Names the key and the fix.
    pub fn check(&self) -> Result<(), Failure> {
        let endpoint = self.endpoint()?;
        if !(0.0..=1.0).contains(&self.sampling_ratio) {
            return Err(Failure::field("sampling_ratio", "use 0 (none) to 1 (all)"));
        }
        if self.service_name.as_ref().is_some_and(|name| name.trim().is_empty() || name.len() > 255) {
            return Err(Failure::field("service_name", "use 1 to 255 characters, or remove it"));
        }
        let plain = endpoint.is_none_or(|uri| uri.scheme() != Some(&Scheme::HTTPS));
        if self.ca_file.is_some() && plain {
            return Err(Failure::field("ca_file", "remove it, or use https:// in otlp_endpoint"));
        }
        Ok(())
    }

    /// Where spans go.
    ///
    /// # Errors
    /// It is not the address of a collector.
    pub(crate) fn endpoint(&self) -> Result<Option<Uri>, Failure> {
        let Some(text) = &self.otlp_endpoint else { return Ok(None) };
        let bad = || {
            Failure::field(
                "otlp_endpoint",
                "use http:// or https:// with host and port only, like http://127.0.0.1:4317, or remove it",
            )
        };
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let known = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
        if !known || !host || uri.path() != "/" || uri.query().is_some() {
            return Err(bad());
        }
        Ok(Some(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn nothing_is_exported_by_itself() {
        let settings = settings("");
        settings.check().unwrap();
        assert!(settings.endpoint().unwrap().is_none());
    }

    #[test]
    fn every_bad_value_names_its_field_and_the_fix() {
        let endpoint = "otlp_endpoint = \"http://127.0.0.1:4317\"\n";
        for (text, field) in [
            ("otlp_endpoint = \"127.0.0.1:4317\"".to_owned(), "otlp_endpoint"),
            ("otlp_endpoint = \"ftp://127.0.0.1:4317\"".to_owned(), "otlp_endpoint"),
            ("otlp_endpoint = \"http://\"".to_owned(), "otlp_endpoint"),
            ("otlp_endpoint = \"http://127.0.0.1:4318/v1/traces\"".to_owned(), "otlp_endpoint"),
            ("otlp_endpoint = \"http://name:secret@127.0.0.1:4317\"".to_owned(), "otlp_endpoint"),
            (format!("{endpoint}sampling_ratio = 1.5"), "sampling_ratio"),
            (format!("{endpoint}sampling_ratio = -1"), "sampling_ratio"),
            (format!("{endpoint}sampling_ratio = nan"), "sampling_ratio"),
            (format!("{endpoint}service_name = \" \""), "service_name"),
            (format!("{endpoint}ca_file = \"/etc/ssl/ca.pem\""), "ca_file"),
        ] {
            let failure = settings(&text).check().unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{text}: {failure}");
            assert!(failure.message.contains("use "), "{failure}");
        }
        settings(&format!("{endpoint}sampling_ratio = 0.1\nservice_name = \"shop\"")).check().unwrap();
        settings("otlp_endpoint = \"https://otel.example\"\nca_file = \"/etc/ssl/ca.pem\"").check().unwrap();
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Settings>("colour = 1").is_err());
    }
}
