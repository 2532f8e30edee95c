//! What a simulated guest agent answers.

use jiff::Timestamp;
use nemordp_types::guest::{Account as AccountView, AccountState, GuestSession, LoginRefusal};
use nemordp_types::instance::GuestSpec;
use nemordp_types::{Bytes, Failure, InstanceId, LoginName, Reason};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::guest::RdpServer;
use super::machine::Machine;
use super::state::{Desktop, Instance};
use crate::host::{GuestAddress, InstanceCounters};

impl Machine {
    fn guest<T>(&self, id: InstanceId, ask: impl FnOnce(&mut Instance) -> Result<T, Failure>) -> Result<T, Failure> {
        self.agent(id)?;
        self.change(id, ask)
    }

    pub(super) fn agent(&self, id: InstanceId) -> Result<(), Failure> {
        if self.booted(id) && !self.faults.is_agent_silent() {
            return Ok(());
        }
        Err(Failure::new(Reason::GuestAgentTimeout, "the guest agent does not answer"))
    }

    pub(super) fn booted(&self, id: InstanceId) -> bool {
        self.world().instances.get(&id).is_some_and(Instance::booted)
    }

    pub(super) fn address(&self, id: InstanceId) -> Result<Option<GuestAddress>, Failure> {
        self.agent(id)?;
        let world = self.world();
        let Some(bound) = world.bindings.get(&id) else { return Ok(None) };
        let ipv4 =
            if self.faults.is_wrong_address() { self.network.private_subnet.gateway() } else { bound.private_ipv4 };
        Ok(Some(GuestAddress { ipv4 }))
    }

    pub(super) fn personalise(&self, id: InstanceId, guest: &GuestSpec) -> Result<(), Failure> {
        self.guest(id, |instance| {
            let disk = instance.boots_mut()?;
            disk.host_name = Some(guest.host_name.to_string());
            disk.account.create(&guest.login_name);
            Ok(())
        })
    }

    pub(super) fn rdp_certificate(&self, id: InstanceId) -> Result<Option<[u8; 32]>, Failure> {
        self.agent(id)?;
        let world = self.world();
        let rdp = world.instances.get(&id).and_then(|instance| instance.boots()?.rdp.as_ref());
        // Without an RDP server there still is a fingerprint to report, the same for each start.
        Ok(Some(rdp.map_or_else(|| Sha256::digest(id.as_uuid().as_bytes()).into(), RdpServer::fingerprint)))
    }

    /// Somebody connects, and finds a desktop.
    pub(super) fn open_desktop(&self, id: InstanceId) -> Result<(), Failure> {
        self.guest(id, |instance| {
            instance.desktop_open = true;
            Ok(())
        })
    }

    /// What was seen on the desktop, in order.
    pub(super) fn desktop(&self, id: InstanceId) -> Vec<Desktop> {
        self.world().instances.get(&id).map(|instance| instance.desktop.clone()).unwrap_or_default()
    }

    pub(super) fn sessions(&self, id: InstanceId) -> Result<Vec<GuestSession>, Failure> {
        self.guest(id, |instance| {
            let open = instance.boots_mut()?.account.login().filter(|_| instance.desktop_open);
            let session = |login_name| GuestSession { id: ":10".to_owned(), login_name, started_at: None };
            Ok(open.map(session).into_iter().collect())
        })
    }

    pub(super) fn announce(&self, id: InstanceId, text: &str) -> Result<bool, Failure> {
        self.guest(id, |instance| {
            if instance.desktop_open {
                instance.desktop.push(Desktop::Announced(text.to_owned()));
            }
            Ok(instance.desktop_open)
        })
    }

    pub(super) fn end_sessions(&self, id: InstanceId, proof_only: bool) -> Result<(), Failure> {
        self.guest(id, |instance| {
            if !proof_only && std::mem::take(&mut instance.desktop_open) {
                instance.desktop.push(Desktop::Ended);
            }
            Ok(())
        })
    }

    pub(super) fn set_password(
        &self,
        id: InstanceId,
        login: &LoginName,
        password: &SecretString,
    ) -> Result<(), Failure> {
        let stored = if self.faults.is_wrong_password() {
            SecretString::from(format!("not {}", password.expose_secret()))
        } else {
            password.clone()
        };
        self.guest(id, |instance| {
            let account = &instance.boots_mut()?.account;
            if account.login().is_none_or(|known| known != *login) {
                return Err(Failure::new(Reason::GuestAgentFailure, format!("the guest has no account {login}"))
                    .with_field("login_name"));
            }
            account.set(login, stored);
            Ok(())
        })
    }

    pub(super) fn account(&self, id: InstanceId, login: &LoginName, since: Timestamp) -> Result<AccountView, Failure> {
        self.guest(id, |instance| {
            let account = &instance.boots_mut()?.account;
            let known = account.login().is_some_and(|known| known == *login);
            let state = match (known, account.credential()) {
                (false, _) => AccountState::Missing,
                (true, None) => AccountState::Locked,
                (true, Some(_)) => AccountState::Usable,
            };
            let last_refusal = account.refused_since(since).then_some(LoginRefusal::Authentication);
            Ok(AccountView { login_name: login.clone(), state, last_refusal })
        })
    }

    /// The name that the guest has given itself.
    pub(super) fn host_name(&self, id: InstanceId) -> Option<String> {
        self.world().instances.get(&id).and_then(|instance| instance.boots()?.host_name.clone())
    }

    /// Grows with the time that a guest has run, so that a scrape shows something that moves.
    pub(super) fn counters(&self) -> Vec<(InstanceId, InstanceCounters)> {
        let now = self.clock.now();
        let world = self.world();
        let running = world.instances.iter().filter_map(|(id, instance)| instance.running().map(|d| (*id, d)));
        running
            .map(|(id, domain)| {
                let since = domain.started_at.map_or(0, |at| now.duration_since(at).as_millis());
                let millis = u64::try_from(since).unwrap_or(0);
                let counters = InstanceCounters {
                    cpu_ns: millis.saturating_mul(20_000),
                    memory_bytes: Bytes::from(domain.spec.memory).0 / 4,
                    network_received_bytes: millis.saturating_mul(100),
                    network_sent_bytes: millis.saturating_mul(10),
                    ..InstanceCounters::default()
                };
                (id, counters)
            })
            .collect()
    }
}
