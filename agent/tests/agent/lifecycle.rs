//! An instance from its order to its end, and what may go wrong on the way.

use std::time::Duration;

use nemordp_agent::config::FaultCall;
use nemordp_agent::host::sim::Fault;
use nemordp_types::guest::{Account, AccountState, LoginRefusal};
use nemordp_types::instance::ObservedPower;
use nemordp_types::operation::{OperationState, Stage};
use nemordp_types::{Failure, Reason};
use nemordp_wire::{id, v1};

use crate::login::{Login, login};
use crate::support::{Node, Wanted, eventually, read};

async fn account(node: &Node, wanted: &Wanted) -> Account {
    let request = v1::GetAccountRequest {
        instance_id: id::encode(&wanted.mutation.instance_id),
        login_name: "user".to_owned(),
        since_us: 1,
    };
    node.client().get_account(request).await.unwrap().into_inner().try_into().unwrap()
}

#[tokio::test]
async fn an_order_becomes_a_login_with_the_password_that_was_set() {
    let mut node = Node::start("").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    let operation = node.ensured(&wanted).await.unwrap();
    assert_eq!(operation.stage, Stage::Finished);
    let status = node.status(id).await.unwrap();
    assert_eq!(status.power, ObservedPower::Running);
    assert!(status.guest_agent);
    assert_eq!(status.confirmed_ipv4, Some(wanted.spec.network.private_ipv4));
    assert_eq!(account(&node, &wanted).await.state, AccountState::Locked, "no password was ever set");

    let set = node.set_password(&wanted.then(1, 1), "right horse").await.unwrap();
    node.outcome(set).await.unwrap();
    assert_eq!(account(&node, &wanted).await.state, AccountState::Usable);
    let endpoint = wanted.spec.network.endpoint.socket_addr();
    let (outcome, certificate) = login(endpoint, "user", "right horse").await.unwrap();
    assert_eq!(outcome, Login::Accepted);
    assert_eq!(status.rdp_certificate_sha256, Some(certificate), "the pinned certificate is the guest's");
    assert_eq!(account(&node, &wanted).await.last_refusal, None);
    for (user, password) in [("user", "wrong horse"), ("somebody", "right horse"), ("user", "")] {
        let (outcome, _) = login(endpoint, user, password).await.unwrap();
        assert_eq!(outcome, Login::Refused(0xc000_006d), "{user} {password:?}");
    }
    assert_eq!(account(&node, &wanted).await.last_refusal, Some(LoginRefusal::Authentication));
    node.stop().await;
}

#[tokio::test]
async fn an_answer_waits_for_the_end_as_long_as_it_is_asked_to() {
    let mut node = Node::start("boot_delay_ms = 600").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.operation_id;
    assert_eq!(node.ensure(&wanted).await.unwrap().state, OperationState::Running, "it answers at once");
    assert_eq!(node.operation_within(id, 50).await.unwrap().state, OperationState::Running, "it waits no longer");
    let patient = node.operation_within(id, 10_000).await.unwrap();
    assert_eq!((patient.state, patient.stage), (OperationState::Succeeded, Stage::Finished));
    let request = v1::SetPasswordRequest {
        mutation: Some((&wanted.then(1, 1)).into()),
        login_name: "user".to_owned(),
        password: "right horse".to_owned(),
        wait_ms: 10_000,
    };
    let set = read(node.client().set_password(request).await).unwrap();
    assert_eq!(set.state, OperationState::Succeeded, "one call is the whole change");
    node.stop().await;
}

#[tokio::test]
async fn a_password_is_in_no_file_of_the_agent_itself() {
    let mut node = Node::start("").await;
    let wanted = Wanted::new(&node.control);
    node.ensured(&wanted).await.unwrap();
    let set = node.set_password(&wanted.then(1, 1), "battery staple").await.unwrap();
    node.outcome(set).await.unwrap();
    let data = node.folder.path().join("data");
    for folder in ["journal", "identity"] {
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!text.windows(14).any(|window| window == b"battery staple"));
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn every_failure_of_host_and_guest_has_its_reason_and_a_delete_leaves_nothing() {
    type Break = fn(&Node);
    let cases: [(&str, Break, Reason, Stage); 6] = [
        ("disk full", |n| n.host.faults().disk_full(true), Reason::DiskFull, Stage::Disk),
        ("never boots", |n| n.host.faults().never_boots(true), Reason::GuestBootTimeout, Stage::GuestAgent),
        ("agent silent", |n| n.host.faults().agent_silent(true), Reason::GuestAgentTimeout, Stage::GuestAgent),
        ("wrong address", |n| n.host.faults().wrong_address(true), Reason::AddressNotConfirmed, Stage::Address),
        ("corrupt", |n| n.host.faults().template_corrupt(true), Reason::TemplateDigestMismatch, Stage::Template),
        (
            "network",
            |n| n.host.faults().next(FaultCall::NetworkAdd, 1, Fault::Fail(Reason::NetworkFailure)),
            Reason::NetworkFailure,
            Stage::Disk,
        ),
    ];
    for (name, injure, reason, stage) in cases {
        let mut node = Node::start("").await;
        injure(&node);
        let wanted = Wanted::new(&node.control);
        let operation = node.ensure(&wanted).await.unwrap();
        let failure = node.outcome(operation).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{name}: {failure:?}");
        let operation = node.operation(wanted.mutation.operation_id).await.unwrap();
        assert_eq!(operation.stage, stage, "{name}: the stage that failed");
        node.host.faults().clear();
        let delete = node.delete(&wanted.then(1, 2)).await.unwrap();
        node.outcome(delete).await.unwrap();
        assert!(node.host.is_clean(wanted.mutation.instance_id), "{name}: something was left");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_first_boot_that_hangs_is_tried_once_more_and_a_known_guest_is_left_alone() {
    const COUNTER: &str = "nemordp_agent_second_boots_total";
    let mut node = Node::start("").await;
    node.host.faults().never_boots(true);
    let wanted = Wanted::new(&node.control);
    let ensure = node.ensure(&wanted).await.unwrap();
    eventually("it waits for the guest", || async {
        node.operation(wanted.mutation.operation_id).await.unwrap().stage == Stage::GuestAgent
    })
    .await;
    node.host.faults().clear();
    node.outcome(ensure).await.unwrap();
    assert!(node.scrape().await.contains(&format!("{COUNTER} 1")), "the second boot is told of");

    // The customer works on this disk by now: whatever hangs, its power is not cut.
    node.host.faults().agent_silent(true);
    let failure = node.ensured(&wanted.with(wanted.then(1, 2))).await.unwrap_err();
    assert_eq!(failure.reason, Reason::GuestAgentTimeout);
    assert!(node.scrape().await.contains(&format!("{COUNTER} 1")), "no further one");
    node.stop().await;
}

#[tokio::test]
async fn a_recorded_failure_runs_again_and_a_recorded_success_does_not() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    node.host.faults().next(FaultCall::DomainDefine, 1, Fault::LoseAnswer);
    assert_eq!(node.ensured(&wanted).await.unwrap_err().reason, Reason::HostFailure);
    let done = node.ensured(&wanted).await.unwrap();
    node.host.faults().always(FaultCall::InstanceFind, Fault::Fail(Reason::HostFailure));
    let again = node.ensure(&wanted).await.unwrap();
    assert_eq!(again.state, OperationState::Succeeded);
    assert_eq!(again.finished_at, done.finished_at, "nothing ran");
    node.stop().await;
}

#[tokio::test]
async fn a_delete_wins_over_an_ensure_that_waits_and_nothing_brings_it_back() {
    let mut node = Node::start("").await;
    node.host.faults().never_boots(true);
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    let ensure = node.ensure(&wanted).await.unwrap();
    eventually("it waits for the guest", || async {
        node.operation(wanted.mutation.operation_id).await.unwrap().stage == Stage::GuestAgent
    })
    .await;
    let delete = node.delete(&wanted.then(2, 1)).await.unwrap();
    let (ensured, deleted) = tokio::join!(node.outcome(ensure), node.outcome(delete.clone()));
    assert_eq!(ensured.unwrap_err().reason, Reason::Cancelled);
    deleted.unwrap();
    assert!(node.host.is_clean(id));
    for late in [wanted.mutation, wanted.then(2, 1), wanted.then(99, 9)] {
        assert_eq!(node.ensure(&wanted.with(late)).await.unwrap_err().reason, Reason::InstanceDeleted);
    }
    let again = node.delete(&delete.mutation).await.unwrap();
    assert_eq!(again.state, OperationState::Succeeded);
    assert_eq!(node.status(id).await.unwrap_err().reason, Reason::NotFound);
    node.stop().await;
    node.boot().await;
    let late = node.ensure(&wanted.with(wanted.then(99, 9))).await.unwrap_err();
    assert_eq!(late.reason, Reason::InstanceDeleted, "the tombstone survives a restart");
    node.stop().await;
}

#[tokio::test]
async fn a_delete_waits_for_a_running_clone_and_then_leaves_nothing() {
    let mut node = Node::start("clone_delay_ms = 700").await;
    let wanted = Wanted::new(&node.control);
    let ensure = node.ensure(&wanted).await.unwrap();
    eventually("it clones", || async {
        node.operation(wanted.mutation.operation_id).await.unwrap().stage == Stage::Disk
    })
    .await;
    let delete = node.delete(&wanted.then(1, 1)).await.unwrap();
    assert_eq!(node.outcome(ensure).await.unwrap_err().reason, Reason::Cancelled);
    node.outcome(delete).await.unwrap();
    assert!(node.host.is_clean(wanted.mutation.instance_id));
    node.stop().await;
}

#[tokio::test]
async fn a_delete_of_an_unknown_instance_succeeds_and_leaves_a_tombstone() {
    let mut node = Node::start("").await;
    let wanted = Wanted::new(&node.control);
    let delete = node.delete(&wanted.mutation).await.unwrap();
    node.outcome(delete).await.unwrap();
    assert_eq!(node.ensure(&wanted.with(wanted.then(5, 5))).await.unwrap_err().reason, Reason::InstanceDeleted);
    node.stop().await;
}

#[tokio::test]
async fn lower_numbers_are_refused_and_nothing_happens() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let first = wanted.with(wanted.then(3, 4));
    node.ensured(&first).await.unwrap();
    for stale in [wanted.then(3, 3), wanted.then(2, 9)] {
        for failure in [
            node.ensure(&wanted.with(stale)).await.unwrap_err(),
            node.delete(&stale).await.unwrap_err(),
            node.power(&stale, v1::PowerAction::Reset).await.unwrap_err(),
            node.set_password(&stale, "x").await.unwrap_err(),
        ] {
            assert_eq!(failure.reason, Reason::StaleGeneration);
        }
    }
    assert_eq!(node.status(wanted.mutation.instance_id).await.unwrap().pair, first.mutation.pair);
    node.stop().await;
}

#[tokio::test]
async fn a_foreign_domain_on_our_name_survives_order_and_delete() {
    let mut node = Node::start("").await;
    let wanted = Wanted::new(&node.control);
    node.host.add_foreign(wanted.mutation.instance_id);
    assert_eq!(node.ensured(&wanted).await.unwrap_err().reason, Reason::NotOurs);
    let delete = node.delete(&wanted.then(1, 2)).await.unwrap();
    node.outcome(delete).await.unwrap();
    assert!(node.host.has_foreign(wanted.mutation.instance_id));
    assert!(node.host.is_clean(wanted.mutation.instance_id), "our own disk and rules are gone");
    node.stop().await;
}

#[tokio::test]
async fn power_follows_what_is_asked() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    let started = node.status(id).await.unwrap().started_at;
    for (action, power) in [
        (v1::PowerAction::Stop, ObservedPower::Off),
        (v1::PowerAction::Stop, ObservedPower::Off),
        (v1::PowerAction::Start, ObservedPower::Running),
        (v1::PowerAction::Restart, ObservedPower::Running),
        (v1::PowerAction::Reset, ObservedPower::Running),
    ] {
        let operation = node.power(&wanted.then(2, 1), action).await.unwrap();
        node.outcome(operation).await.unwrap();
        assert_eq!(node.status(id).await.unwrap().power, power, "{action:?}");
    }
    assert_ne!(node.status(id).await.unwrap().started_at, started);
    let missing = node.power(&Wanted::new(&node.control).mutation, v1::PowerAction::Start).await.unwrap_err();
    assert_eq!(missing.reason, Reason::NotFound);
    node.stop().await;
}

#[tokio::test]
async fn every_series_has_help_and_those_of_a_deleted_instance_end() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id.to_string();
    node.ensured(&wanted).await.unwrap();
    eventually("a heartbeat was answered", || async { node.running.as_ref().unwrap().heartbeats.borrow().is_some() })
        .await;
    let text = node.scrape().await;
    let body = text.split_once("\r\n\r\n").unwrap().1;
    for name in body
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains(' '))
        .filter_map(|l| l.split(['{', ' ']).next())
    {
        assert!(name.starts_with("nemordp_agent_"), "{name}");
        let stem =
            ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(body.contains(&format!("# HELP {stem} ")), "{name} has no help");
    }
    for expected in [
        format!("nemordp_agent_instance_cpu_seconds_total{{instance_id=\"{id}\"}}"),
        "nemordp_agent_operations_total{kind=\"ensure_instance\",outcome=\"succeeded\"} 1".to_owned(),
        "nemordp_agent_pool_physical_bytes{storage_class=\"nvme\"}".to_owned(),
        "nemordp_agent_template_fetched_bytes_total 300000".to_owned(),
        "nemordp_agent_certificate_expiry_timestamp_seconds".to_owned(),
        "nemordp_agent_heartbeat_age_seconds".to_owned(),
    ] {
        assert!(body.contains(&expected), "{expected} is missing in\n{body}");
    }
    let delete = node.delete(&wanted.then(1, 1)).await.unwrap();
    node.outcome(delete).await.unwrap();
    assert!(!node.scrape().await.contains(&id));
    node.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_an_instance_come_and_go() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let mut watch = node.client().watch_instances(v1::WatchInstancesRequest {}).await.unwrap().into_inner();
    node.ensured(&wanted).await.unwrap();
    let delete = node.delete(&wanted.then(1, 1)).await.unwrap();
    node.outcome(delete).await.unwrap();
    let mut seen = Vec::new();
    let all = async {
        while seen.last() != Some(&v1::ObservedPower::Absent) {
            seen.push(watch.message().await.unwrap().unwrap().power());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    assert!(seen.contains(&v1::ObservedPower::Running), "{seen:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_hanging_host_does_not_hold_up_other_instances_or_the_end() {
    let mut node = Node::start("rdp = false").await;
    node.host.faults().next(FaultCall::DomainStart, 1, Fault::Hang);
    let stuck = Wanted::new(&node.control);
    node.ensure(&stuck).await.unwrap();
    eventually("it hangs", || async {
        node.operation(stuck.mutation.operation_id).await.unwrap().stage == Stage::Start
    })
    .await;
    node.ensured(&Wanted::new(&node.control)).await.unwrap();
    let queued = node.power(&stuck.then(1, 1), v1::PowerAction::Start).await.unwrap();
    assert_eq!(queued.state, OperationState::Running, "it waits its turn");
    node.host.faults().clear();
    node.outcome(queued).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let mut node = Node::start("").await;
    let wanted = Wanted::new(&node.control);
    let mut spec: v1::InstanceSpec = (&wanted.spec).into();
    spec.host_name = "not a name".to_owned();
    let mutation = Some((&wanted.mutation).into());
    let request = v1::EnsureInstanceRequest { mutation, spec: Some(spec), without_guest: false, wait_ms: 0 };
    let failure: Failure =
        nemordp_wire::status::from_status(&node.client().ensure_instance(request).await.unwrap_err());
    assert_eq!(failure.field.as_deref(), Some("spec.host_name"), "{failure:?}");
    let failure = node.set_password(&wanted.mutation, "").await.unwrap_err();
    assert_eq!(failure.field.as_deref(), Some("password"));
    node.stop().await;
}
