//! Passwords, shown once.

use clap::Subcommand;
use nemordp_api::{CredentialsLink, CredentialsReveal, RevealedCredentials};
use nemordp_types::InstanceId;
use url::Url;

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};

/// What can be done with credentials.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Makes the link that the customer opens, once.
    Link {
        /// Whose.
        instance: InstanceId,
    },
    /// Opens the link, as the customer would: afterwards nobody has the password but you.
    Reveal {
        /// A link, or an instance, for which a link is made first.
        link_or_instance: String,
    },
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Link { instance } => {
                let link = make(client, instance).await?;
                output.text(&link.url, &link)
            }
            Self::Reveal { link_or_instance } => {
                let url = match link_or_instance.parse::<InstanceId>() {
                    Ok(instance) => make(client, instance).await?.url,
                    Err(_) => link_or_instance,
                };
                let request = CredentialsReveal { token: token(&url)? };
                output.one(&client.post_public::<RevealedCredentials>("v1/credentials/reveal", &request).await?)
            }
        }
    }
}

async fn make(client: &Client, instance: InstanceId) -> Result<CredentialsLink, Error> {
    client.post_empty(&format!("v1/instances/{instance}/credentials")).await
}

/// The token stands in the link's fragment, which browsers never send.
fn token(link: &str) -> Result<String, Error> {
    let wrong = || Error::Usage("give the id of an instance, or a whole link with its part behind #".to_owned());
    let url = Url::parse(link).map_err(|_| wrong())?;
    url.fragment().filter(|fragment| !fragment.is_empty()).map(ToOwned::to_owned).ok_or_else(wrong)
}

impl Row for RevealedCredentials {
    const HEADS: &'static [&'static str] = &["ENDPOINT", "LOGIN", "PASSWORD", "CERTIFICATE SHA-256", "INSTANCE"];

    fn cells(&self) -> Vec<String> {
        vec![
            format!("{}:{}", self.endpoint_address, self.endpoint_port),
            self.login_name.to_string(),
            self.password.clone(),
            cell(self.rdp_certificate_sha256.as_ref()),
            self.instance_id.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_what_stands_behind_the_hash() {
        assert_eq!(token("https://cloud.example/c#nrc1.abc").unwrap(), "nrc1.abc");
        for bad in ["https://cloud.example/c", "https://cloud.example/c#", "nonsense"] {
            assert_eq!(token(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
