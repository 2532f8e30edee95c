//! What is wanted of an instance changes: suspended, larger, renamed, on a fresh disk, in rescue, and all of it back.

use nemordp_agent::config::FaultCall;
use nemordp_agent::host::sim::Fault;
use nemordp_types::instance::{DesiredPower, Edition, InstanceSpec, ObservedPower};
use nemordp_types::{Bytes, GiB, HostName, MiB, Reason, Vcpu};
use nemordp_wire::v1;

use crate::login::{Login, login};
use crate::support::{Node, Wanted};

/// The next wish of this instance.
fn next(wanted: &Wanted, change: impl FnOnce(&mut InstanceSpec)) -> Wanted {
    let generation = wanted.mutation.pair.generation.0 + 1;
    let mut next = wanted.with(wanted.then(generation, 1));
    change(&mut next.spec);
    next
}

async fn opens(node: &Node, wanted: &Wanted, password: &str) -> bool {
    let endpoint = wanted.spec.network.endpoint.socket_addr();
    assert_eq!(node.status(wanted.mutation.instance_id).await.unwrap().power, ObservedPower::Running);
    login(endpoint, "user", password).await.unwrap().0 == Login::Accepted
}

async fn set_password(node: &Node, wanted: &Wanted, password: &str) {
    let set = node.set_password(&wanted.then(wanted.mutation.pair.generation.0, 1), password).await.unwrap();
    node.outcome(set).await.unwrap();
}

/// An instance with a password.
async fn delivered(node: &Node, password: &str) -> Wanted {
    let wanted = Wanted::new(&node.control);
    node.ensured(&wanted).await.unwrap();
    set_password(node, &wanted, password).await;
    wanted
}

#[tokio::test]
async fn a_suspended_instance_cannot_be_reached_or_started_not_even_by_a_restart_of_the_agent() {
    let mut node = Node::start("").await;
    let wanted = delivered(&node, "right horse").await;
    let id = wanted.mutation.instance_id;
    let suspended = next(&wanted, |spec| spec.suspended = true);
    for _ in 0..2 {
        node.ensured(&suspended).await.unwrap();
        assert_eq!(node.status(id).await.unwrap().power, ObservedPower::Off);
    }
    let refused = node.power(&suspended.then(2, 1), v1::PowerAction::Start).await.unwrap();
    assert_eq!(node.outcome(refused).await.unwrap_err().reason, Reason::Conflict);
    let endpoint = suspended.spec.network.endpoint.socket_addr();
    assert!(login(endpoint, "user", "right horse").await.is_err(), "nobody answers");
    node.stop().await;
    node.host.reboot().unwrap();
    node.boot().await;
    assert_eq!(node.status(id).await.unwrap().power, ObservedPower::Off, "a reboot of the host starts it neither");
    let back = next(&suspended, |spec| spec.suspended = false);
    node.ensured(&back).await.unwrap();
    assert!(opens(&node, &back, "right horse").await, "it is as it was");
    node.stop().await;
}

#[tokio::test]
async fn a_larger_size_survives_a_failure_in_its_middle_and_a_disk_never_shrinks() {
    let mut node = Node::start("").await;
    let wanted = delivered(&node, "right horse").await;
    let id = wanted.mutation.instance_id;
    let larger = next(&wanted, |spec| (spec.vcpu, spec.memory, spec.disk) = (Vcpu(4), MiB(8_192), GiB(100)));
    for call in [FaultCall::DiskGrow, FaultCall::DomainDefine, FaultCall::DomainStart] {
        node.host.faults().next(call, 1, Fault::LoseAnswer);
        node.ensured(&larger).await.unwrap_err();
    }
    node.ensured(&larger).await.unwrap();
    let status = node.status(id).await.unwrap();
    assert_eq!((status.vcpu, status.memory, status.disk), (Vcpu(4), MiB(8_192), Bytes::from(GiB(100))));
    assert!(opens(&node, &larger, "right horse").await);
    let started = status.started_at;
    node.ensured(&larger.with(larger.then(2, 2))).await.unwrap();
    assert_eq!(node.status(id).await.unwrap().started_at, started, "nothing is done twice");
    let shrunk = node.ensured(&next(&larger, |spec| spec.disk = GiB(50))).await.unwrap_err();
    assert_eq!((shrunk.reason, shrunk.field.as_deref()), (Reason::DiskTooSmall, Some("spec.disk_gib")));
    let smaller = next(&larger, |spec| (spec.vcpu, spec.memory) = (Vcpu(2), MiB(4_096)));
    node.ensured(&smaller.with(smaller.then(4, 1))).await.unwrap();
    assert_eq!(node.status(id).await.unwrap().vcpu, Vcpu(2), "processors and memory can be taken back");
    node.stop().await;
}

#[tokio::test]
async fn a_fresh_disk_can_be_taken_back_until_the_old_one_is_let_go() {
    let mut node = Node::start("").await;
    let wanted = delivered(&node, "right horse").await;
    let (id, class) = (wanted.mutation.instance_id, wanted.spec.storage_class.clone());
    let certificate = node.status(id).await.unwrap().rdp_certificate_sha256;
    let fresh = next(&wanted, |spec| (spec.disks.system, spec.disks.kept) = (Edition(2), Some(Edition(0))));
    node.ensured(&fresh).await.unwrap();
    assert!(!opens(&node, &fresh, "right horse").await, "nothing of the old disk is on it");
    set_password(&node, &fresh, "other horse").await;
    assert!(opens(&node, &fresh, "other horse").await);
    assert_ne!(node.status(id).await.unwrap().rdp_certificate_sha256, certificate);
    let back = next(&fresh, |spec| (spec.disks.system, spec.disks.kept) = (Edition(0), None));
    node.ensured(&back).await.unwrap();
    assert!(opens(&node, &back, "right horse").await, "the old disk with its old password");
    assert_eq!(node.host.disks(id, &class), [Edition(0)], "and the fresh one is gone");
    let again = next(&back, |spec| (spec.disks.system, spec.disks.kept) = (Edition(4), Some(Edition(0))));
    node.ensured(&again).await.unwrap();
    let settled = next(&again, |spec| spec.disks.kept = None);
    node.host.faults().next(FaultCall::DiskTidy, 1, Fault::Fail(Reason::HostFailure));
    node.ensured(&settled).await.unwrap_err();
    node.ensured(&settled).await.unwrap();
    assert_eq!(node.host.disks(id, &class), [Edition(4)]);
    let delete = node.delete(&settled.then(9, 1)).await.unwrap();
    node.outcome(delete).await.unwrap();
    assert!(node.host.is_clean(id));
    node.stop().await;
}

#[tokio::test]
async fn a_rescue_system_sees_the_own_disk_which_is_as_it_was_afterwards() {
    let mut node = Node::start("").await;
    let wanted = delivered(&node, "right horse").await;
    let (id, class) = (wanted.mutation.instance_id, wanted.spec.storage_class.clone());
    let rescued = next(&wanted, |spec| spec.disks.rescue = Some(Edition(2)));
    node.ensured(&rescued).await.unwrap();
    assert!(node.host.is_attached(id));
    assert_eq!(node.status(id).await.unwrap().disk, Bytes::from(GiB(50)), "the size is its own disk's");
    set_password(&node, &rescued, "rescue horse").await;
    assert!(opens(&node, &rescued, "rescue horse").await);
    let reset = node.power(&rescued.then(2, 1), v1::PowerAction::Reset).await.unwrap();
    node.outcome(reset).await.unwrap();
    assert!(node.host.is_attached(id), "after each boot it is plugged in again");
    let back = next(&rescued, |spec| spec.disks.rescue = None);
    node.ensured(&back).await.unwrap();
    assert!(!node.host.is_attached(id));
    assert!(opens(&node, &back, "right horse").await);
    assert_eq!(node.host.disks(id, &class), [Edition(0)]);
    node.stop().await;
}

#[tokio::test]
async fn a_name_is_set_at_once_or_at_the_next_start_and_never_twice() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    let named = |wanted: &Wanted, name: &str| next(wanted, |spec| spec.guest.host_name = HostName::new(name).unwrap());
    let first = named(&wanted, "first");
    node.ensured(&first).await.unwrap();
    assert_eq!(node.host.host_name(id).as_deref(), Some("first"));
    let off = next(&first, |spec| spec.power = DesiredPower::Off);
    node.ensured(&off).await.unwrap();
    let second = named(&off, "second");
    node.ensured(&second).await.unwrap();
    assert_eq!(node.host.host_name(id).as_deref(), Some("first"), "a guest that is off takes no name");
    let start = node.power(&second.then(4, 1), v1::PowerAction::Start).await.unwrap();
    node.outcome(start).await.unwrap();
    assert_eq!(node.host.host_name(id).as_deref(), Some("second"));
    node.host.faults().always(FaultCall::GuestPersonalise, Fault::Fail(Reason::GuestAgentFailure));
    let restart = node.power(&second.then(4, 1), v1::PowerAction::Restart).await.unwrap();
    node.outcome(restart).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_guest_whose_owner_silenced_it_is_suspended_and_comes_back_all_the_same() {
    let mut node = Node::start("").await;
    let wanted = delivered(&node, "right horse").await;
    node.host.faults().agent_silent(true);
    let suspended = next(&wanted, |spec| spec.suspended = true);
    node.reconfigured(&suspended).await.unwrap();
    let back = next(&suspended, |spec| (spec.suspended, spec.memory) = (false, MiB(8_192)));
    node.reconfigured(&back).await.unwrap();
    let status = node.status(wanted.mutation.instance_id).await.unwrap();
    assert_eq!((status.power, status.memory), (ObservedPower::Running, MiB(8_192)));
    node.stop().await;
}
