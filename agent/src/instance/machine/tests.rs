use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use nemordp_types::instance::{
    DesiredPower, DiskSet, Edition, GuestSpec, InstanceSpec, NetworkSpec, ObservedPower, PowerAction,
};
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{
    Bytes, Endpoint, GiB, HostName, InstanceId, LoginName, MacAddr, ManualClock, MiB, Mutation, OrderId, Pair,
    SeededEntropy, StorageClass, Template, TemplateDigest, TemplateName, Vcpu,
};
use proptest::prelude::*;

use super::*;

fn spec(power: DesiredPower) -> InstanceSpec {
    let private = Ipv4Addr::new(10, 64, 0, 2);
    let login = LoginName::new("user").unwrap();
    InstanceSpec {
        order_id: OrderId::new(&ManualClock::at_second(1), &SeededEntropy::new(1)),
        vcpu: Vcpu(2),
        memory: MiB(4_096),
        disk: GiB(50),
        storage_class: StorageClass::new("nvme").unwrap(),
        template: Template {
            name: TemplateName::new("debian").unwrap(),
            digest: TemplateDigest::from_bytes([1; 32]),
            file_size: Bytes(1),
            virtual_size: Bytes(1),
            rdp_security: RdpSecurity::Nla,
            personalisation: Personalisation::GuestAgent,
            login_name: login.clone(),
        },
        network: NetworkSpec {
            mac: MacAddr::of_private_ipv4(private),
            private_ipv4: private,
            endpoint: Endpoint { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 20_000 },
        },
        guest: GuestSpec {
            host_name: HostName::new("desk").unwrap(),
            login_name: login,
            time_zone: None,
            keyboard: None,
        },
        power,
        suspended: false,
        disks: DiskSet::default(),
        gpus: None,
    }
}

fn work(seed: u64, job: Job) -> Work {
    let clock = ManualClock::at_second(1);
    let mutation = Mutation {
        operation_id: OperationId::new(&clock, &SeededEntropy::new(seed)),
        instance_id: InstanceId::new(&clock, &SeededEntropy::new(0)),
        pair: Pair::default(),
    };
    Work { mutation, job }
}

fn ensure(seed: u64) -> Work {
    work(seed, Job::Ensure(Box::new(spec(DesiredPower::On))))
}

fn nothing() -> Facts {
    Facts { existing: None, personalised: false, disks: Vec::new() }
}

fn existing(power: ObservedPower) -> Facts {
    let disk = Bytes::from(GiB(50));
    let existing = Some(Existing { spec: spec(DesiredPower::On), power, disk });
    Facts { existing, personalised: true, disks: vec![Edition(0)] }
}

/// Operations that ended, with the reason where they failed.
type Outcomes = Vec<(OperationId, Option<Reason>)>;

/// Runs the machine until nothing runs, each step ending well; gives the steps and the outcomes.
fn drive(mut state: State, event: Event, facts: &Facts) -> (State, Vec<Step>, Outcomes) {
    let (mut steps, mut outcomes, mut next) = (Vec::new(), Vec::new(), Some(event));
    while let Some(event) = next.take() {
        let (after, actions) = apply(state, event);
        state = after;
        for action in actions {
            match action {
                Action::Run(step) => {
                    steps.push(step);
                    next =
                        Some(if step == Step::Look { Event::Looked(Box::new(facts.clone())) } else { Event::StepDone });
                }
                Action::Interrupt => {}
                Action::Finish(id, outcome) => outcomes.push((id, outcome.err().map(|failure| failure.reason))),
            }
        }
    }
    (state, steps, outcomes)
}

#[test]
fn an_order_goes_through_its_steps() {
    let (state, steps, outcomes) = drive(State::Idle, Event::Requested(ensure(1)), &nothing());
    assert!(matches!(state, State::Idle));
    assert_eq!(
        steps,
        [
            Step::Look,
            Step::Template,
            Step::Disk,
            Step::Define,
            Step::Start,
            Step::GuestAgent,
            Step::Personalise,
            Step::Address,
            Step::RdpAnswer
        ]
    );
    assert_eq!(outcomes, [(ensure(1).mutation.operation_id, None)]);
}

#[test]
fn a_running_instance_is_neither_redefined_nor_personalised_again() {
    let (_, steps, _) = drive(State::Idle, Event::Requested(ensure(1)), &existing(ObservedPower::Running));
    assert_eq!(steps, [Step::Look, Step::Network, Step::GuestAgent, Step::Address, Step::RdpAnswer]);
}

#[test]
fn wanting_it_off_stops_it_and_writes_that_down() {
    let off = work(1, Job::Ensure(Box::new(spec(DesiredPower::Off))));
    let (_, steps, _) = drive(State::Idle, Event::Requested(off), &existing(ObservedPower::Running));
    assert_eq!(steps, [Step::Look, Step::Network, Step::Define, Step::Stop]);
    let stop = work(2, Job::Power(PowerAction::Stop));
    let (_, steps, _) = drive(State::Idle, Event::Requested(stop), &existing(ObservedPower::Running));
    assert_eq!(steps, [Step::Look, Step::WritePower(DesiredPower::Off), Step::Stop]);
}

/// Why a running instance cannot become this, when it cannot.
fn refused(wanted: InstanceSpec) -> Option<(Reason, Option<String>)> {
    let refusal = plan::steps(&Job::Ensure(Box::new(wanted)), &existing(ObservedPower::Running)).err()?;
    Some((refusal.reason, refusal.field))
}

/// The steps from a running instance to a changed one, the look and the waiting at the end left out.
fn steps_to(change: impl FnOnce(&mut InstanceSpec), facts: &Facts) -> Vec<Step> {
    let mut wanted = spec(DesiredPower::On);
    change(&mut wanted);
    let waits = [Step::Network, Step::GuestAgent, Step::Address, Step::RdpAnswer];
    let steps = plan::steps(&Job::Ensure(Box::new(wanted)), facts).unwrap();
    steps.into_iter().filter(|step| !waits.contains(step)).collect()
}

#[test]
fn a_suspended_instance_is_first_off_the_network_and_cannot_be_started() {
    let running = existing(ObservedPower::Running);
    assert_eq!(steps_to(|s| s.suspended = true, &running), [Step::Unforward, Step::Define, Step::Stop]);
    let mut suspended = existing(ObservedPower::Off);
    suspended.existing.as_mut().unwrap().spec.suspended = true;
    assert_eq!(steps_to(|s| s.suspended = true, &suspended), [Step::Unforward], "repeated, nothing is left to do");
    for action in [PowerAction::Start, PowerAction::Restart, PowerAction::Reset] {
        let refusal = plan::steps(&Job::Power(action), &suspended).unwrap_err();
        assert!(refusal.message.contains("unsuspend"), "{refusal:?}");
    }
    assert!(plan::steps(&Job::Power(PowerAction::Stop), &suspended).is_ok());
    assert_eq!(
        steps_to(|_| (), &suspended),
        [Step::Define, Step::Disk, Step::Start],
        "what was wanted before holds again"
    );
}

#[test]
fn another_size_needs_the_guest_off_and_is_written_down_last() {
    let running = existing(ObservedPower::Running);
    let larger = |s: &mut InstanceSpec| (s.vcpu, s.memory, s.disk) = (Vcpu(4), MiB(8_192), GiB(100));
    assert_eq!(steps_to(larger, &running), [Step::Stop, Step::Grow, Step::Define, Step::Start]);
    let mut grown = existing(ObservedPower::Off);
    grown.existing.as_mut().unwrap().disk = Bytes::from(GiB(100));
    assert_eq!(steps_to(larger, &grown), [Step::Define, Step::Start], "a crash after growing goes on there");
    let crashed = existing(ObservedPower::Failed);
    assert_eq!(steps_to(|s| s.vcpu = Vcpu(4), &crashed), [Step::Cut, Step::Define, Step::Start]);
    let mut off = spec(DesiredPower::Off);
    off.vcpu = Vcpu(4);
    let steps = plan::steps(&Job::Ensure(Box::new(off)), &existing(ObservedPower::Off)).unwrap();
    assert_eq!(steps, [Step::Network, Step::Define], "what is off stays off");
}

#[test]
fn a_fresh_disk_is_made_beside_the_old_one_which_goes_when_nobody_needs_it() {
    let mut fresh = existing(ObservedPower::Running);
    fresh.personalised = false;
    let reinstalled = |s: &mut InstanceSpec| {
        s.template.digest = TemplateDigest::from_bytes([2; 32]);
        s.disks = DiskSet { system: Edition(7), rescue: None, kept: Some(Edition(0)) };
    };
    let made = [Step::Template, Step::Disk, Step::Stop, Step::Define, Step::Start, Step::Personalise];
    assert_eq!(steps_to(reinstalled, &fresh), made);
    let mut both = existing(ObservedPower::Running);
    both.disks.push(Edition(7));
    reinstalled(&mut both.existing.as_mut().unwrap().spec);
    let last = |s: &mut InstanceSpec| {
        reinstalled(s);
        s.disks.kept = None;
    };
    assert_eq!(steps_to(last, &both), [Step::Define, Step::Tidy]);
    last(&mut both.existing.as_mut().unwrap().spec);
    assert_eq!(steps_to(last, &both), [Step::Tidy], "a crash before the last step is made good");
    let back = steps_to(|_| (), &both);
    assert_eq!(back, [Step::Stop, Step::Define, Step::Start, Step::Tidy], "the old disk is there: taken back at once");
}

#[test]
fn a_rescue_system_boots_alone_and_then_sees_the_own_disk() {
    let mut running = existing(ObservedPower::Running);
    running.personalised = false;
    let rescued = |s: &mut InstanceSpec| s.disks.rescue = Some(Edition(5));
    let steps = steps_to(rescued, &running);
    assert_eq!(steps[..2], [Step::Template, Step::Disk]);
    assert_eq!(steps[steps.len() - 1], Step::Attach);
    rescued(&mut running.existing.as_mut().unwrap().spec);
    let restarted = plan::steps(&Job::Power(PowerAction::Reset), &running).unwrap();
    assert_eq!(restarted, [Step::Cut, Step::Network, Step::Start, Step::GuestAgent, Step::Personalise, Step::Attach]);
}

#[test]
fn names_that_changed_while_it_was_off_are_set_at_its_next_start() {
    let mut off = existing(ObservedPower::Off);
    off.personalised = false;
    let steps = plan::steps(&Job::Power(PowerAction::Start), &off).unwrap();
    assert_eq!(steps, [Step::Network, Step::Start, Step::GuestAgent, Step::Personalise]);
}

#[test]
fn a_guest_that_nobody_waits_for_may_answer_nothing() {
    let mut larger = spec(DesiredPower::On);
    larger.vcpu = Vcpu(4);
    let work = Job::Reconfigure(Box::new(larger));
    let steps = plan::steps(&work, &existing(ObservedPower::Running)).unwrap();
    assert_eq!(steps, [Step::Network, Step::Stop, Step::Define, Step::Start]);
}

#[test]
fn what_an_instance_was_made_from_cannot_change() {
    let mut other = spec(DesiredPower::On);
    other.template.digest = TemplateDigest::from_bytes([2; 32]);
    assert_eq!(refused(other), Some((Reason::Conflict, Some("spec.template".to_owned()))));
    let mut smaller = spec(DesiredPower::On);
    smaller.disk = GiB(49);
    assert_eq!(refused(smaller), Some((Reason::DiskTooSmall, Some("spec.disk_gib".to_owned()))));
}

#[test]
fn work_on_nothing_is_refused_and_a_delete_of_nothing_succeeds() {
    for job in
        [Job::Power(PowerAction::Start), Job::EndSessions { login: LoginName::new("user").unwrap(), proof_only: true }]
    {
        let (_, _, outcomes) = drive(State::Idle, Event::Requested(work(1, job)), &nothing());
        assert_eq!(outcomes[0].1, Some(Reason::NotFound));
    }
    let (state, steps, outcomes) = drive(State::Idle, Event::Requested(work(2, Job::Delete)), &nothing());
    assert!(matches!(state, State::Deleted));
    assert_eq!(steps, [Step::Look, Step::Unforward, Step::Erase], "a domain that is not ours is not touched");
    assert_eq!(outcomes[0].1, None);
}

#[test]
fn a_delete_ends_a_running_ensure_at_its_step_and_refuses_the_rest() {
    let (state, _) = apply(State::Idle, Event::Requested(ensure(1)));
    let (state, _) = apply(state, Event::Looked(Box::new(nothing())));
    let (state, _) = apply(state, Event::StepDone);
    let (state, actions) = apply(state, Event::Requested(work(2, Job::Power(PowerAction::Start))));
    assert!(actions.is_empty(), "it waits");
    let (state, actions) = apply(state, Event::Requested(work(3, Job::Delete)));
    assert!(matches!(
        actions.as_slice(),
        [Action::Finish(id, Err(failure)), Action::Interrupt]
            if *id == work(2, Job::Delete).mutation.operation_id && failure.reason == Reason::Cancelled
    ));
    assert_eq!(accepts(&state, &Job::Power(PowerAction::Start)).unwrap_err().reason, Reason::InstanceDeleted);
    assert!(accepts(&state, &Job::Delete).is_ok());
    let (state, steps, outcomes) = drive(state, Event::StepDone, &existing(ObservedPower::Off));
    assert!(matches!(state, State::Deleted));
    assert_eq!(steps, [Step::Look, Step::Cut, Step::Undefine, Step::Unforward, Step::Erase]);
    assert_eq!(outcomes[0], (ensure(1).mutation.operation_id, Some(Reason::Cancelled)));
    assert_eq!(outcomes[1].1, None);
}

#[test]
fn a_full_queue_is_a_clear_conflict() {
    let (mut state, _) = apply(State::Idle, Event::Requested(work(1, Job::Power(PowerAction::Start))));
    for seed in 2..10 {
        assert!(accepts(&state, &Job::Power(PowerAction::Start)).is_ok());
        (state, _) = apply(state, Event::Requested(work(seed, Job::Power(PowerAction::Start))));
    }
    assert_eq!(accepts(&state, &Job::Power(PowerAction::Start)).unwrap_err().reason, Reason::Conflict);
    assert!(accepts(&state, &Job::Delete).is_ok(), "a delete always wins");
}

#[derive(Debug, Clone)]
enum Move {
    Ensure,
    Power,
    Sessions,
    Delete,
    StepDone,
    StepFailed,
    Stop,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => Just(Move::Ensure),
        2 => Just(Move::Power),
        2 => Just(Move::Sessions),
        1 => Just(Move::Delete),
        12 => Just(Move::StepDone),
        2 => Just(Move::StepFailed),
        1 => Just(Move::Stop),
    ];
    proptest::collection::vec(one, 1..80)
}

proptest! {
    /// Whatever comes in whatever order: one step runs at a time, every accepted operation ends exactly once, nothing is
    /// made after a delete was accepted, and a delete succeeds only after everything was removed.
    #[test]
    fn one_owner_one_outcome_and_deletion_wins(all in moves(), there in any::<bool>()) {
        let facts = if there { existing(ObservedPower::Running) } else { nothing() };
        let mut state = State::Idle;
        let mut running: Option<Step> = None;
        let mut open: HashMap<OperationId, bool> = HashMap::new();
        let (mut deleting, mut erased) = (false, false);
        for (seed, one) in (1u64..).zip(all.iter().chain(std::iter::repeat_n(&Move::StepDone, 300))) {
            let event = match one {
                Move::StepDone | Move::StepFailed => {
                    let Some(step) = running.take() else { continue };
                    match one {
                        Move::StepFailed => Event::StepFailed(Failure::internal("x")),
                        Move::Ensure | Move::Power | Move::Sessions | Move::Delete | Move::Stop | Move::StepDone
                            if step == Step::Look =>
                        {
                            Event::Looked(Box::new(facts.clone()))
                        }
                        Move::Ensure | Move::Power | Move::Sessions | Move::Delete | Move::Stop | Move::StepDone => {
                            erased |= step == Step::Erase;
                            Event::StepDone
                        }
                    }
                }
                Move::Stop => Event::Stop,
                Move::Ensure | Move::Power | Move::Sessions | Move::Delete => {
                    let job = match one {
                        Move::Ensure => Job::Ensure(Box::new(spec(DesiredPower::On))),
                        Move::Power => Job::Power(PowerAction::Restart),
                        Move::Sessions => Job::EndSessions { login: LoginName::new("user").unwrap(), proof_only: false },
                        Move::Delete | Move::StepDone | Move::StepFailed | Move::Stop => Job::Delete,
                    };
                    // The journal's tombstone refuses what comes after an accepted delete.
                    if accepts(&state, &job).is_err() || (deleting && !matches!(job, Job::Delete)) {
                        continue;
                    }
                    deleting |= matches!(job, Job::Delete);
                    let work = work(seed, job);
                    open.insert(work.mutation.operation_id, matches!(work.job, Job::Delete));
                    Event::Requested(work)
                }
            };
            let (after, actions) = apply(state, event);
            state = after;
            for action in actions {
                match action {
                    Action::Run(step) => {
                        prop_assert!(running.is_none(), "two owners: {running:?} and {step:?}");
                        prop_assert!(!(deleting && step.creates()), "{step:?} after a delete was accepted");
                        running = Some(step);
                    }
                    Action::Interrupt => prop_assert!(running.is_some()),
                    Action::Finish(id, outcome) => {
                        let delete = open.remove(&id);
                        prop_assert!(delete.is_some(), "an outcome for nobody, or a second one");
                        if delete == Some(true) && outcome.is_ok() {
                            prop_assert!(erased, "deleted before everything was removed");
                        }
                    }
                }
            }
        }
        prop_assert!(open.is_empty(), "left open: {open:?} in {state:?}");
        prop_assert!(running.is_none());
    }
}
