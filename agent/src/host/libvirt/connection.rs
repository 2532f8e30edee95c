//! The connection to libvirt: blocking calls on threads of their own, bounded in number and in time.
//!
//! Nothing is decided here. A lost connection (libvirtd was restarted) is opened again and the call repeated a few
//! times; every call is one that may be repeated. A call that libvirt never ends is abandoned at its deadline: its
//! thread stays until libvirt lets go, counts against the bound, and, for a guest agent, keeps that guest's lock, so
//! that calls to one hung guest do not pile up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nemordp_types::{Failure, InstanceId, Reason};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;

use super::error;

/// Waits before each new attempt to reach libvirt; together they outlast a restart of its daemon.
const RECONNECT: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1500),
    Duration::from_millis(2500),
];

/// Longest time of a usual call, reconnecting included.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

type Locks = Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>;

/// Threads that were left behind; shared with them.
#[derive(Debug, Default)]
struct Abandoned(AtomicUsize);

/// Shared connection.
pub struct Connection {
    uri: String,
    current: Arc<Mutex<Option<Connect>>>,
    calls: Arc<Semaphore>,
    agent_calls: Arc<Semaphore>,
    domain_locks: Locks,
    agent_locks: Locks,
    abandoned: Arc<Abandoned>,
}

impl Connection {
    /// Prepares a connection; it is opened by the first call.
    #[must_use]
    pub fn new(uri: &str, calls: usize, agent_calls: usize) -> Self {
        // libvirt otherwise prints every error to the standard error output itself.
        virt::error::clear_error_callback();
        Self {
            uri: uri.to_owned(),
            current: Arc::new(Mutex::new(None)),
            calls: Arc::new(Semaphore::new(calls.max(1))),
            agent_calls: Arc::new(Semaphore::new(agent_calls.max(1))),
            domain_locks: Mutex::default(),
            agent_locks: Mutex::default(),
            abandoned: Arc::default(),
        }
    }

    /// Shares a connection that is open already: libvirt's test driver has its state in the connection.
    #[must_use]
    pub fn with_open(connect: Connect, uri: &str) -> Self {
        let connection = Self::new(uri, 4, 4);
        *connection.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(connect);
        connection
    }

    /// Threads that wait for libvirt although nobody waits for them any more.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.abandoned.0.load(Ordering::Relaxed)
    }

    /// The lock under which a domain is changed.
    pub async fn lock_domain(&self, instance: InstanceId) -> OwnedMutexGuard<()> {
        lock_of(&self.domain_locks, instance).lock_owned().await
    }

    /// Runs a call on a thread of its own.
    pub async fn call<T, F>(&self, call: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Fn(&Connect) -> Result<T, Error> + Send + 'static,
    {
        let permit = permit(&self.calls, CALL_DEADLINE).await?;
        let (uri, current) = (self.uri.clone(), Arc::clone(&self.current));
        let work = move || repeat(&uri, &current, &call).map_err(|error| error::host(&error));
        self.run(permit, None, CALL_DEADLINE, too_slow, work).await
    }

    /// Runs a call that goes to a guest's agent, one at a time per guest; it never takes longer than the deadline.
    pub async fn agent_call<T, F>(&self, instance: InstanceId, deadline: Duration, call: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Fn(&Domain, i32) -> Result<T, Error> + Send + 'static,
    {
        let begin = tokio::time::Instant::now();
        let lock = lock_of(&self.agent_locks, instance).lock_owned();
        let guard = tokio::time::timeout(deadline, lock).await.map_err(|_| {
            error::silent_agent().with_context("an earlier call to this guest's agent has not ended yet")
        })?;
        let permit = permit(&self.agent_calls, deadline.saturating_sub(begin.elapsed())).await?;
        let (uri, current) = (self.uri.clone(), Arc::clone(&self.current));
        let left = deadline.saturating_sub(begin.elapsed());
        let seconds = i32::try_from(left.as_secs().max(1)).unwrap_or(i32::MAX);
        let work = move || {
            let on_domain = |connect: &Connect| {
                let domain = Domain::lookup_by_uuid(connect, instance.as_uuid())?;
                call(&domain, seconds)
            };
            repeat(&uri, &current, &on_domain).map_err(|error| error::agent(&error))
        };
        self.run(permit, Some(guard), left, error::silent_agent, work).await
    }

    async fn run<T, F>(
        &self,
        permit: OwnedSemaphorePermit,
        guard: Option<OwnedMutexGuard<()>>,
        deadline: Duration,
        late: fn() -> Failure,
        work: F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Failure> + Send + 'static,
    {
        let waited_for = Arc::new(Watch::default());
        let (watch, abandoned) = (Arc::clone(&waited_for), Arc::clone(&self.abandoned));
        // Its parent is the host's call, which says for what; the time between the two is waiting for a thread.
        let span = nemordp_trace::child!("libvirt", otel.name = "libvirt", otel.kind = "client");
        let thread = tokio::task::spawn_blocking(move || {
            let result = span.in_scope(work);
            if let Err(failure) = &result {
                nemordp_trace::fail(&span, failure.reason);
            }
            drop(span);
            watch.end(&abandoned);
            drop((permit, guard));
            result
        });
        match tokio::time::timeout(deadline, thread).await {
            Ok(joined) => joined.map_err(Failure::internal)?,
            Err(_) => {
                waited_for.abandon(&self.abandoned);
                Err(late())
            }
        }
    }
}

/// Settles between a thread and whoever waits for it, so that an abandoned thread is counted exactly while it lasts.
#[derive(Debug, Default)]
struct Watch(Mutex<Fate>);

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Fate {
    #[default]
    Running,
    Abandoned,
    Ended,
}

impl Watch {
    fn abandon(&self, abandoned: &Abandoned) {
        let mut fate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *fate == Fate::Running {
            *fate = Fate::Abandoned;
            abandoned.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn end(&self, abandoned: &Abandoned) {
        let mut fate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *fate == Fate::Abandoned {
            abandoned.0.fetch_sub(1, Ordering::Relaxed);
        }
        *fate = Fate::Ended;
    }
}

fn too_slow() -> Failure {
    Failure::new(Reason::HostFailure, "libvirt did not answer in time; check its service on this node")
}

async fn permit(calls: &Arc<Semaphore>, deadline: Duration) -> Result<OwnedSemaphorePermit, Failure> {
    let waited = tokio::time::timeout(deadline, Arc::clone(calls).acquire_owned()).await;
    waited.map_err(|_| too_slow().with_context("all threads wait for libvirt"))?.map_err(Failure::internal)
}

fn lock_of(locks: &Locks, instance: InstanceId) -> Arc<tokio::sync::Mutex<()>> {
    let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
    // Locks that nobody holds or waits for are only in the map.
    locks.retain(|id, lock| *id == instance || Arc::strong_count(lock) > 1);
    Arc::clone(locks.entry(instance).or_default())
}

fn repeat<T>(
    uri: &str,
    current: &Mutex<Option<Connect>>,
    call: &dyn Fn(&Connect) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut waits = RECONNECT.iter();
    loop {
        let error = match open(uri, current).and_then(|connect| call(&connect)) {
            Err(error) if error::is_lost(&error) => error,
            result => return result,
        };
        *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Some(wait) = waits.next() else { return Err(error) };
        std::thread::sleep(*wait);
    }
}

fn open(uri: &str, current: &Mutex<Option<Connect>>) -> Result<Connect, Error> {
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(connect) = current.as_ref() {
        return Ok(connect.clone());
    }
    let connect = Connect::open(Some(uri))?;
    *current = Some(connect.clone());
    Ok(connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection::new("test:///default", 2, 2)
    }

    fn test_domain() -> InstanceId {
        // The test driver's only domain has a UUID that every libvirt knows.
        "6695eb01-f6a4-8304-79aa-97f2502e193f".parse().unwrap()
    }

    #[tokio::test]
    async fn a_hung_agent_call_ends_at_its_deadline_and_the_next_one_does_not_pile_up() {
        let connection = connection();
        let (release, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let wait = Mutex::new(wait);
        let hung = connection.agent_call(test_domain(), Duration::from_millis(200), move |_, _| {
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(30));
            Ok(())
        });
        let begin = std::time::Instant::now();
        assert_eq!(hung.await.unwrap_err().reason, Reason::GuestAgentTimeout);
        assert_eq!(connection.abandoned(), 1);
        let next = connection.agent_call(test_domain(), Duration::from_millis(100), |_, _| Ok(())).await;
        assert!(next.unwrap_err().context.unwrap().contains("earlier call"));
        assert!(begin.elapsed() < Duration::from_secs(5));
        release.send(()).unwrap();
        connection.agent_call(test_domain(), Duration::from_secs(20), |_, _| Ok(())).await.unwrap();
        assert_eq!(connection.abandoned(), 0);
    }

    #[tokio::test]
    async fn a_lost_connection_is_opened_again() {
        let connection = connection();
        let failures = AtomicUsize::new(2);
        let name = connection.call(move |connect| {
            if failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                // What a daemon that is gone leaves in our hands.
                return Err(Connect::open(Some("qemu+unix:///system?socket=/no/such/socket")).unwrap_err());
            }
            connect.get_type()
        });
        assert_eq!(name.await.unwrap(), "TEST");
    }

    #[tokio::test]
    async fn a_daemon_that_stays_away_is_a_failure_of_the_host() {
        let connection = Connection::new("qemu+unix:///system?socket=/no/such/socket", 1, 1);
        let failure = connection.call(|connect| connect.get_type()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::HostFailure);
    }
}
