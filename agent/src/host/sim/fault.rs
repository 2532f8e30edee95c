//! Faults of the simulated hypervisor, set by the configuration or while it runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nemordp_types::{Failure, Reason};
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

#[derive(Debug, Default)]
struct State {
    set: VecDeque<Set>,
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
        for fault in config {
            let effect = match fault.effect {
                FaultEffect::Fail => Fault::Fail(fault.reason.unwrap_or(Reason::HostFailure)),
                FaultEffect::LoseAnswer => Fault::LoseAnswer,
                FaultEffect::Hang => Fault::Hang,
                FaultEffect::Delay => Fault::Delay(Duration::from_millis(fault.delay_ms.unwrap_or(0))),
            };
            faults.lock().set.push_back(Set { call: fault.call, fault: effect, left: fault.times });
        }
        faults
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
        *self.lock() = State::default();
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
                cleared.await;
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
