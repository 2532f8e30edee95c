//! What is asked of a guest, through its QEMU guest agent or at its RDP port, and how its answers read.
//!
//! Map: [`agent`] the agent's own commands · [`script`] the few fixed scripts that run inside · [`account`] accounts and
//! refused logins · [`session`] desktop sessions · [`certificate`] what the RDP server shows · [`rdp`] the first packet of
//! an RDP connection. Nothing here talks to a hypervisor: a back end sends the requests and hands the answers in.

pub mod account;
pub mod agent;
pub mod certificate;
pub mod rdp;
pub mod script;
pub mod session;

use nemordp_types::KeyboardLayout;

/// The two parts of an XKB layout; the variant is empty when there is none.
#[must_use]
pub fn layout_and_variant(keyboard: &KeyboardLayout) -> (&str, &str) {
    match keyboard.as_str().split_once('(') {
        Some((layout, variant)) => (layout, variant.trim_end_matches(')')),
        None => (keyboard.as_str(), ""),
    }
}
