//! Our own CA: who is issued what, and the control plane's own certificate.
//!
//! The CA's key lies in one file that only its owner can read. From a request only the public key is taken; names,
//! usages, serial and validity are ours. A node's certificate is good for weeks and renewed after two thirds; what must
//! stop earlier goes onto the numbered revocation list, which heartbeats carry to the agents.

mod authority;
mod file;
mod own;
mod record;
mod request;

pub use authority::{Authority, Issued};
pub(crate) use file::{private_folder, replace};
pub use own::{Pki, to_pem};
pub use record::record;
pub use request::SigningRequest;
