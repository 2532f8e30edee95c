//! Taking turns on one machine where two programs that choose the first free thing would choose the same one.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use super::error::{During, LabError, Result};
use super::process::poll;

/// Held while something is chosen and taken. It is a name in the kernel, not a file, and vanishes with its holder.
#[derive(Debug)]
pub(super) struct Turn {
    _name: UnixListener,
}

impl Turn {
    /// Waits until nobody else on the machine chooses `what`.
    pub(super) fn wait(what: &str) -> Result<Self> {
        let limit = Duration::from_mins(1);
        let address = SocketAddr::from_abstract_name(format!("nemordp-lab/{what}"));
        let address = address.during(|| "name a lock".to_owned())?;
        let taken = poll(limit, || match UnixListener::bind_addr(&address) {
            Ok(name) => Ok(Some(Self { _name: name })),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error).during(|| "take a lock".to_owned()),
        })?;
        taken.ok_or_else(|| LabError::Deadline {
            what: format!("another program's choice of its {what}"),
            limit,
            context: String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_for_the_first() {
        let first = Turn::wait("test").expect("free");
        let address = SocketAddr::from_abstract_name("nemordp-lab/test").expect("a name");
        let refused = UnixListener::bind_addr(&address).expect_err("it is held");
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        let second = std::thread::spawn(|| Turn::wait("test"));
        drop(first);
        second.join().expect("no panic").expect("its turn");
    }
}
