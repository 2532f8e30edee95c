//! Faults of the simulated hypervisor, set by the configuration or while it runs: by a hand in the same process, or from
//! outside by a file in its folder, which is read anew whenever it changes.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nemordp_types::{Failure, Reason};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::config::{FaultCall, FaultConfig, FaultEffect};

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails before anything happened.
    Fail(Reason),
    /// It happens, but the answer is lost: the caller sees a failure.
    LoseAnswer,
    /// It never returns, until the faults are cleared.
    Hang,
    /// It takes longer.
    Delay(Duration),
}

#[derive(Debug)]
struct Set {
    call: FaultCall,
    fault: Fault,
    /// How many more calls it hits; none: all.
    left: Option<u32>,
}

impl From<&FaultConfig> for Set {
    fn from(config: &FaultConfig) -> Self {
        let fault = match config.effect {
            FaultEffect::Fail => Fault::Fail(config.reason.unwrap_or(Reason::HostFailure)),
            FaultEffect::LoseAnswer => Fault::LoseAnswer,
            FaultEffect::Hang => Fault::Hang,
            FaultEffect::Delay => Fault::Delay(Duration::from_millis(config.delay_ms.unwrap_or(0))),
        };
        Self { call: config.call, fault, left: config.times }
    }
}

/// The file, as `[[faults]]` of the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFile {
    #[serde(default)]
    faults: Vec<FaultConfig>,
}

/// How often a call that hangs looks at the file.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Followed {
    path: PathBuf,
    /// Number, time and length of the file that was read last.
    seen: Option<(u64, SystemTime, u64)>,
}

#[derive(Debug, Default)]
struct State {
    set: VecDeque<Set>,
    followed: Option<Followed>,
    disk_full: bool,
    never_boots: bool,
    agent_silent: bool,
    stores_wrong_password: bool,
    template_corrupt: bool,
    wrong_address: bool,
}

/// A hand on the faults of one simulated machine. Clones are the same hand.
#[derive(Debug, Clone, Default)]
pub struct SimFaults {
    state: Arc<Mutex<State>>,
    cleared: Arc<Notify>,
}

impl SimFaults {
    pub(super) fn new(config: &[FaultConfig]) -> Self {
        let faults = Self::default();
        faults.lock().set = config.iter().map(Set::from).collect();
        faults
    }

    /// From now on a file says which faults there are, as soon as it exists.
    pub(super) fn follow(&self, path: &Path) {
        self.lock().followed = Some(Followed { path: path.to_owned(), seen: None });
    }

    /// Takes over what the file says, if it changed; one that cannot be understood changes nothing.
    fn look(&self) {
        let mut state = self.lock();
        let Some(followed) = &mut state.followed else { return };
        let now = std::fs::metadata(&followed.path).ok().and_then(|m| Some((m.ino(), m.modified().ok()?, m.len())));
        if now.is_none() || now == followed.seen {
            return;
        }
        followed.seen = now;
        let text = std::fs::read_to_string(&followed.path).unwrap_or_default();
        match toml::from_str::<FaultFile>(&text) {
            Ok(file) => {
                state.set = file.faults.iter().map(Set::from).collect();
                self.cleared.notify_waiters();
            }
            Err(error) => tracing::error!(%error, "the file of faults cannot be used"),
        }
    }

    /// The next `times` calls of this method meet the fault.
    pub fn next(&self, call: FaultCall, times: u32, fault: Fault) {
        self.lock().set.push_back(Set { call, fault, left: Some(times) });
    }

    /// Every call of this method meets the fault until [`SimFaults::clear`].
    pub fn always(&self, call: FaultCall, fault: Fault) {
        self.lock().set.push_back(Set { call, fault, left: None });
    }

    /// Clones find no room.
    pub fn disk_full(&self, full: bool) {
        self.lock().disk_full = full;
    }

    /// Guests that start from now on never come up: neither agent nor RDP.
    pub fn never_boots(&self, never: bool) {
        self.lock().never_boots = never;
    }

    /// Guests come up and answer RDP, but their agent does not.
    pub fn agent_silent(&self, silent: bool) {
        self.lock().agent_silent = silent;
    }

    /// Guests confirm a password and keep another one.
    pub fn stores_wrong_password(&self, wrong: bool) {
        self.lock().stores_wrong_password = wrong;
    }

    /// A fetched template is not what its manifest says.
    pub fn template_corrupt(&self, corrupt: bool) {
        self.lock().template_corrupt = corrupt;
    }

    /// Guests take another address than the ordered one.
    pub fn wrong_address(&self, wrong: bool) {
        self.lock().wrong_address = wrong;
    }

    /// No faults any more; what hangs goes on.
    pub fn clear(&self) {
        let mut state = self.lock();
        *state = State { followed: state.followed.take(), ..State::default() };
        drop(state);
        self.cleared.notify_waiters();
    }

    pub(super) fn is_disk_full(&self) -> bool {
        self.lock().disk_full
    }

    pub(super) fn is_never_boots(&self) -> bool {
        self.lock().never_boots
    }

    pub(super) fn is_agent_silent(&self) -> bool {
        self.lock().agent_silent
    }

    pub(super) fn is_wrong_password(&self) -> bool {
        self.lock().stores_wrong_password
    }

    pub(super) fn is_template_corrupt(&self) -> bool {
        self.lock().template_corrupt
    }

    pub(super) fn is_wrong_address(&self) -> bool {
        self.lock().wrong_address
    }

    /// Meets the faults of a call before its effect; gives what is answered instead of the effect's result.
    pub(super) async fn before(&self, call: FaultCall) -> Result<Option<Failure>, Failure> {
        // Before anybody waits: what this very look finds must not end the hang that it brings.
        self.look();
        let cleared = self.cleared.notified();
        tokio::pin!(cleared);
        cleared.as_mut().enable();
        match self.take(call) {
            None => Ok(None),
            Some(Fault::Fail(reason)) => Err(Failure::new(reason, format!("injected fault in {call:?}"))),
            Some(Fault::LoseAnswer) => {
                Ok(Some(Failure::new(Reason::HostFailure, format!("injected fault: the answer of {call:?} was lost"))))
            }
            Some(Fault::Hang) => {
                // The file may be changed by whoever does not share this process.
                while tokio::time::timeout(LOOK, cleared.as_mut()).await.is_err() {
                    self.look();
                }
                Ok(None)
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
        }
    }

    fn take(&self, call: FaultCall) -> Option<Fault> {
        let mut state = self.lock();
        let index = state.set.iter().position(|set| set.call == call)?;
        let set = state.set.get_mut(index)?;
        let fault = set.fault.clone();
        if let Some(left) = &mut set.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.set.remove(index);
            }
        }
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_sets_faults_and_takes_them_back_while_calls_hang() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("faults.toml");
        let faults = SimFaults::new(&[]);
        faults.follow(&file);
        assert!(faults.before(FaultCall::Load).await.is_ok());
        std::fs::write(&file, "[[faults]]\ncall = \"load\"\neffect = \"hang\"\n").unwrap();
        let hanging = faults.clone();
        let hung = tokio::spawn(async move { hanging.before(FaultCall::Load).await });
        tokio::time::sleep(LOOK * 3).await;
        assert!(!hung.is_finished());
        std::fs::write(&file, "").unwrap();
        assert!(hung.await.unwrap().is_ok());
        std::fs::write(&file, "[[faults]]\ncall = \"load\"\neffect = \"fail\"\ntimes = 1\n").unwrap();
        assert!(faults.before(FaultCall::Load).await.is_err());
        assert!(faults.before(FaultCall::Load).await.is_ok());
    }
}
