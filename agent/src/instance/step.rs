//! Does one step through the host. Each is safe to repeat; only those that wait can be interrupted.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nemordp_types::instance::{DesiredPower, Edition, GuestSpec, InstanceSpec, Mark, ObservedPower};
use nemordp_types::{Failure, InstanceId, LoginName, Reason};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::plan::{self, Existing, Facts, Job, Step, Work};
use super::wait::{self, Ended, until, within};
use crate::host::{Binding, Host, HostInstance};

/// What a call to the hypervisor may take.
const CALL: Duration = Duration::from_secs(120);
/// What a clone may take, its turn included.
const CLONE: Duration = Duration::from_secs(900);
/// What a guest may take to answer one question.
const GUEST: Duration = Duration::from_secs(60);

/// What an announcement may take; nothing waits for it longer.
const ANNOUNCE: Duration = Duration::from_secs(10);
/// What a user reads before the sessions end.
const ENDING: &str = "Your password is being reset: this session ends in a moment. Save your work now.";

/// What a step found out.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing but that it is done.
    Done,
    /// What is there.
    Looked(Box<Facts>, Option<Box<HostInstance>>),
    /// The guest agent answers.
    Agent,
    /// The guest on this disk has these names now.
    Personalised(GuestSpec, Edition),
    /// The guest has the ordered address.
    Address(Ipv4Addr),
    /// RDP answers with this certificate.
    Certificate([u8; 32]),
}

/// One step of one piece of work.
pub(super) struct Run<H> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) work: Work,
    pub(super) step: Step,
    /// How the guest was personalised before, and on which disk.
    pub(super) personalised: Option<(GuestSpec, Edition)>,
    pub(super) interrupt: CancellationToken,
}

impl<H: Host> Run<H> {
    pub(super) async fn run(self) -> Result<Found, Failure> {
        let (host, id) = (&self.shared.host, self.id());
        match self.step {
            Step::Look => self.look().await,
            Step::Template => self.template().await,
            Step::Disk => self.disk().await,
            Step::Network => done(within(CALL, "setting the network", host.network_add(&self.binding().await?)).await),
            Step::Define => done(self.define(&self.wanted().await?).await),
            Step::Start => done(within(CALL, "starting the domain", host.domain_start(id)).await),
            Step::GuestAgent => self.guest_agent().await,
            Step::Personalise => {
                let InstanceSpec { guest, disks, .. } = self.wanted().await?;
                within(self.shared.boot_timeout, "personalising the guest", host.guest_personalise(id, &guest)).await?;
                Ok(Found::Personalised(guest, disks.boots()))
            }
            Step::Address => self.address().await,
            Step::RdpAnswer => self.rdp_answer().await,
            Step::WritePower(power) => done(self.write_power(power).await),
            Step::Stop => done(self.stop().await),
            Step::Cut => done(within(CALL, "cutting the power", host.domain_destroy(id)).await),
            Step::Grow => {
                let spec = self.wanted().await?;
                done(within(CALL, "growing the disk", host.disk_grow(id, &spec)).await)
            }
            Step::Attach => done(within(CALL, "plugging in the disk", host.disk_attach(id)).await),
            Step::Tidy => {
                let spec = self.wanted().await?;
                done(within(CALL, "removing old disks", host.disk_tidy(id, &spec)).await)
            }
            Step::Password | Step::Sessions => done(self.account().await),
            Step::Undefine => done(within(CALL, "removing the domain", host.domain_undefine(id)).await),
            Step::Unforward => done(within(CALL, "removing the forwarding", host.network_remove(id)).await),
            Step::Erase => done(self.erase().await),
        }
    }

    const fn id(&self) -> InstanceId {
        self.work.mutation.instance_id
    }

    /// The specification that the work wants, or the one that stands in the domain's metadata.
    async fn wanted(&self) -> Result<InstanceSpec, Failure> {
        match &self.work.job {
            Job::Ensure(spec) | Job::Reconfigure(spec) => Ok((**spec).clone()),
            Job::Power(_) | Job::Delete | Job::SetPassword { .. } | Job::EndSessions { .. } => {
                let found = within(CALL, "reading the domain", self.shared.host.instance_find(self.id())).await?;
                found.map(|instance| instance.spec).ok_or_else(plan::absent)
            }
        }
    }

    async fn binding(&self) -> Result<Binding, Failure> {
        Ok(Binding { instance_id: self.id(), network: self.wanted().await?.network })
    }

    async fn look(&self) -> Result<Found, Failure> {
        let host = &self.shared.host;
        let found = within(CALL, "reading the domain", host.instance_find(self.id())).await?;
        let wanted = match (&self.work.job, &found) {
            (Job::Ensure(spec) | Job::Reconfigure(spec), Some(_)) => Some(&**spec),
            (Job::Power(_), Some(instance)) => Some(&instance.spec),
            _ => None,
        };
        let personalised = wanted.is_some_and(|spec| {
            self.personalised.as_ref().is_some_and(|(guest, disk)| *guest == spec.guest && *disk == spec.disks.boots())
        });
        let disks = match (&self.work.job, &found) {
            (Job::Ensure(spec) | Job::Reconfigure(spec), Some(_)) => {
                within(CALL, "reading the disks", host.disk_list(self.id(), &spec.storage_class)).await?
            }
            _ => Vec::new(),
        };
        let existing = found.as_ref().map(|i| Existing { spec: i.spec.clone(), power: i.power, disk: i.disk });
        Ok(Found::Looked(Box::new(Facts { existing, personalised, disks }), found.map(Box::new)))
    }

    async fn template(&self) -> Result<Found, Failure> {
        let template = self.wanted().await?.template;
        let (size, board) = (template.file_size.0.max(1), &self.shared.board);
        let operation = self.work.mutation.operation_id;
        let progress = |fetched: u64| {
            let percent = u8::try_from(fetched.saturating_mul(100) / size).unwrap_or(100).min(100);
            board.operation_change(operation, |shown| shown.percent = Some(percent));
        };
        tokio::select! {
            () = self.interrupt.cancelled() => Err(wait::interrupted()),
            result = self.shared.templates.ensure(&template, progress) => done(result),
        }
    }

    /// The network does not need the disk: its rules are set while the clone is made, and both before the first boot.
    /// A suspended instance has none.
    async fn disk(&self) -> Result<Found, Failure> {
        let (host, spec, binding) = (&self.shared.host, self.wanted().await?, self.binding().await?);
        let network = async {
            if spec.suspended {
                return Ok(());
            }
            within(CALL, "setting the network", host.network_add(&binding)).await
        };
        self.shared.clones.fetch_add(1, Ordering::Relaxed);
        let (disk, network) =
            tokio::join!(within(CLONE, "cloning the disk", host.disk_clone(self.id(), &spec)), network,);
        self.shared.clones.fetch_sub(1, Ordering::Relaxed);
        done(disk.and(network))
    }

    async fn define(&self, spec: &InstanceSpec) -> Result<(), Failure> {
        let mark = Mark {
            installation_id: self.shared.installation_id,
            instance_id: self.id(),
            order_id: spec.order_id,
            generation: self.work.mutation.pair.generation,
        };
        within(CALL, "defining the domain", self.shared.host.domain_define(&mark, spec)).await
    }

    async fn write_power(&self, power: DesiredPower) -> Result<(), Failure> {
        let spec = InstanceSpec { power, ..self.wanted().await? };
        self.define(&spec).await
    }

    /// A first boot that hangs is a loss of the hypervisor more often than of the template: on emulated processors of a
    /// busy host a kernel can lose its timer. A disk that nobody was given yet loses nothing by a second boot, so
    /// half of the time is left for one.
    async fn guest_agent(&self) -> Result<Found, Failure> {
        let whole = self.shared.boot_timeout;
        let first = if self.boots_fresh_disk().await? { whole / 2 } else { whole };
        let mut answered = self.agent_answer(first).await;
        let mut booted = false;
        if matches!(answered, Err(Ended::TimedOut(_))) {
            // A guest whose RDP server answers has booted: then it is the agent that is missing.
            let host = &self.shared.host;
            booted = within(GUEST, "asking RDP", host.guest_rdp_answers(self.id(), Duration::from_secs(2)))
                .await
                .unwrap_or(false);
            if first < whole {
                if !booted {
                    self.boot_again(first).await?;
                }
                answered = self.agent_answer(whole - first).await;
            }
        }
        let seconds = whole.as_secs();
        match answered {
            Ok(()) => Ok(Found::Agent),
            Err(ended) => Err(ended.into_failure(if booted {
                Failure::new(
                    Reason::GuestAgentTimeout,
                    format!("the guest runs, but its agent did not answer for {seconds} s: look at qemu-guest-agent in the template"),
                )
            } else {
                Failure::new(
                    Reason::GuestBootTimeout,
                    format!("the guest did not boot within {seconds} s: look at its console, or raise boot_timeout_seconds"),
                )
            })),
        }
    }

    async fn agent_answer(&self, limit: Duration) -> Result<(), Ended> {
        let (host, id) = (&self.shared.host, self.id());
        until(&self.interrupt, limit, || async move { host.guest_ping(id, wait::ATTEMPT / 2).await.map(Some) }).await
    }

    /// Whether nothing was ever set up on the disk that the guest boots from.
    async fn boots_fresh_disk(&self) -> Result<bool, Failure> {
        let Job::Ensure(_) = self.work.job else { return Ok(false) };
        let disk = self.wanted().await?.disks.boots();
        Ok(self.personalised.as_ref().is_none_or(|(_, known)| *known != disk))
    }

    async fn boot_again(&self, waited: Duration) -> Result<(), Failure> {
        let (host, id) = (&self.shared.host, self.id());
        tracing::warn!(instance = %id, waited_seconds = waited.as_secs(), "the first boot hangs; the guest is started once more");
        self.shared.second_boots.fetch_add(1, Ordering::Relaxed);
        within(CALL, "cutting the power", host.domain_destroy(id)).await?;
        within(CALL, "starting the domain", host.domain_start(id)).await
    }

    async fn address(&self) -> Result<Found, Failure> {
        let (host, id, ordered) = (&self.shared.host, self.id(), self.wanted().await?.network.private_ipv4);
        let confirmed = until(&self.interrupt, self.shared.boot_timeout, || async move {
            match host.guest_address(id).await? {
                Some(found) if found.ipv4 == ordered => Ok(Some(ordered)),
                Some(found) => Err(Failure::new(
                    Reason::AddressNotConfirmed,
                    format!("the guest has {}, ordered was {ordered}", found.ipv4),
                )),
                None => Ok(None),
            }
        });
        confirmed.await.map(Found::Address).map_err(|ended| {
            ended.into_failure(Failure::new(
                Reason::AddressNotConfirmed,
                format!("the guest did not take the address {ordered}: look at DHCP on the node's bridge"),
            ))
        })
    }

    async fn rdp_answer(&self) -> Result<Found, Failure> {
        let (host, id) = (&self.shared.host, self.id());
        let answered = until(&self.interrupt, self.shared.boot_timeout, || async move {
            if !host.guest_rdp_answers(id, wait::ATTEMPT / 2).await? {
                return Ok(None);
            }
            host.guest_rdp_certificate(id).await
        });
        answered.await.map(Found::Certificate).map_err(|ended| {
            ended.into_failure(Failure::new(
                Reason::GuestBootTimeout,
                "the guest's RDP server did not answer in time: look at it in the template",
            ))
        })
    }

    async fn stop(&self) -> Result<(), Failure> {
        let (host, id) = (&self.shared.host, self.id());
        if let Err(failure) = within(CALL, "asking the guest to shut down", host.domain_shutdown(id)).await
            && failure.reason.retry() == nemordp_types::Retry::Permanent
        {
            return Err(failure);
        }
        let off = until(&self.interrupt, self.shared.shutdown_timeout, || async move {
            let power = host.instance_find(id).await?.map_or(ObservedPower::Absent, |i| i.power);
            Ok(matches!(power, ObservedPower::Off | ObservedPower::Absent).then_some(()))
        });
        match off.await {
            Ok(()) => Ok(()),
            Err(Ended::TimedOut(_)) => within(CALL, "cutting the power", host.domain_destroy(id)).await,
            Err(Ended::Failed(failure)) => Err(failure),
        }
    }

    async fn account(&self) -> Result<(), Failure> {
        let (host, id) = (&self.shared.host, self.id());
        match &self.work.job {
            Job::SetPassword { login, password } => {
                within(GUEST, "setting the password", host.guest_set_password(id, login, password)).await
            }
            Job::EndSessions { login, proof_only } => {
                if !proof_only {
                    self.announce(login).await;
                }
                within(GUEST, "ending sessions", host.guest_end_sessions(id, login, *proof_only)).await
            }
            Job::Ensure(_) | Job::Reconfigure(_) | Job::Power(_) | Job::Delete => {
                Err(Failure::internal("this work has no account"))
            }
        }
    }

    /// Tells whoever has a session open that it ends, and leaves a moment to read that. Nothing fails over it.
    async fn announce(&self, login: &LoginName) {
        let (host, id) = (&self.shared.host, self.id());
        match within(ANNOUNCE, "announcing the end of sessions", host.guest_announce(id, login, ENDING)).await {
            Ok(false) => {}
            Ok(true) => tokio::select! {
                () = self.interrupt.cancelled() => {}
                () = tokio::time::sleep(self.shared.announce_pause) => {}
            },
            Err(failure) => tracing::warn!(instance = %id, ?failure, "sessions end without an announcement"),
        }
    }

    /// The domain that knew the disk's pool may be gone already: every pool is asked, for a disk of this instance's name.
    async fn erase(&self) -> Result<(), Failure> {
        let host = &self.shared.host;
        for pool in within(CALL, "reading the pools", host.inventory()).await?.pools {
            within(CALL, "removing the disk", host.disk_delete(self.id(), &pool.storage_class)).await?;
        }
        Ok(())
    }
}

fn done(result: Result<(), Failure>) -> Result<Found, Failure> {
    result.map(|()| Found::Done)
}
