//! Overflow money on mixed and GPU-heavy fleets, by orders of every temper.

use std::collections::BTreeMap;

use nemordp_simulate::replay::{Report, read_fleet, replay};
use nemordp_simulate::strategy;

use crate::dice::Dice;

/// Plans: id, processors, memory, disk, GPUs, price.
const PLANS: [(&str, u32, u32, u32, u32, f64); 3] =
    [("basic", 2, 4_096, 50, 0, 0.03), ("performance", 4, 8_192, 100, 0, 0.06), ("gpu", 8, 16_384, 200, 1, 0.60)];
/// A node with GPUs: processors, memory, GPUs.
const GPU_NODES: [(&str, u32, u32, u32); 3] =
    [("4 of 64/256", 64, 262_144, 4), ("2 of 24/64", 24, 65_536, 2), ("8 of 64/128", 64, 131_072, 8)];
const PLAIN: (u32, u32) = (32, 131_072);
const HORIZON: f64 = 72.0 * 3_600.0;

/// How the orders come.
#[derive(Clone, Copy, PartialEq)]
enum Temper {
    Steady,
    Daily,
    GpuSurge,
    FloodThenGpu,
    Sawtooth,
    FlashCrowd,
    NoGpu,
}

const TEMPERS: [(Temper, &str); 7] = [
    (Temper::Steady, "steady"),
    (Temper::Daily, "daily"),
    (Temper::GpuSurge, "gpu surge"),
    (Temper::FloodThenGpu, "flood, then gpu"),
    (Temper::Sawtooth, "sawtooth"),
    (Temper::FlashCrowd, "flash crowd"),
    (Temper::NoGpu, "gpu stops"),
];

struct Came {
    at: f64,
    until: f64,
    plan: usize,
}

fn orders(temper: Temper, gpu_share: f64, seed: u64) -> Vec<Came> {
    let mut dice = Dice(seed);
    let (mut at, mut all) = (0.0, Vec::new());
    while at < HORIZON {
        let phase = (at / 86_400.0).fract();
        let wave = 1.0 + 0.6 * (phase * 2.0 * std::f64::consts::PI).sin();
        let late = at > HORIZON * 0.5;
        let (rate, gpu) = match temper {
            Temper::Steady => (1.0, gpu_share),
            Temper::Daily => (wave, gpu_share),
            Temper::GpuSurge => (1.0, if late && at < HORIZON * 0.7 { gpu_share * 2.0 } else { gpu_share }),
            Temper::FloodThenGpu => (1.0, if late { gpu_share * 2.0 } else { 0.0 }),
            Temper::Sawtooth => (1.0, gpu_share),
            Temper::FlashCrowd => (if (0.6..0.63).contains(&(at / HORIZON)) { 8.0 } else { 1.0 }, gpu_share),
            Temper::NoGpu => (1.0, if late { 0.0 } else { gpu_share }),
        };
        at += -dice.share().max(1e-9).ln() * 90.0 / rate;
        let saw = (at / 7_200.0).fract();
        let plan = if dice.share() < gpu {
            2
        } else if temper == Temper::Sawtooth {
            usize::from(saw > 0.5)
        } else {
            usize::from(dice.share() < 0.35)
        };
        let life = (dice.normal() * 1.2).exp() * 4.0 * 3_600.0;
        all.push(Came { at, until: at + life.max(60.0), plan });
    }
    all
}

/// The most that runs at once: GPU orders, and processors of all.
fn peaks(orders: &[Came]) -> (f64, f64) {
    let mut moments: Vec<(f64, i8, usize)> = Vec::new();
    for order in orders {
        moments.push((order.at, 1, order.plan));
        moments.push((order.until, -1, order.plan));
    }
    moments.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut gpus, mut vcpus, mut most) = (0.0f64, 0.0f64, (0.0f64, 0.0f64));
    for (_, sign, plan) in moments {
        vcpus += f64::from(sign) * f64::from(PLANS[plan].1);
        gpus += f64::from(sign) * f64::from(PLANS[plan].4);
        most = (most.0.max(gpus), most.1.max(vcpus));
    }
    most
}

fn fleet(orders: &[Came], gpu_node: usize, scale: f64, lifetimes: &str) -> String {
    let (gpus, vcpus) = peaks(orders);
    let (_, vcpu, memory, per_node) = GPU_NODES[gpu_node];
    let with_gpu = (scale * gpus / f64::from(per_node)).ceil();
    let rest = scale * vcpus - with_gpu * f64::from(vcpu);
    let plain = (rest.max(0.0) / f64::from(PLAIN.0)).ceil();
    let mut nodes = Vec::new();
    for index in 0..count(plain) {
        nodes.push(format!(r#"{{"id":"p{index}","vcpu":{},"mem_mib":{},"disk_gib":8000}}"#, PLAIN.0, PLAIN.1));
    }
    for index in 0..count(with_gpu) {
        nodes
            .push(format!(r#"{{"id":"g{index}","vcpu":{vcpu},"mem_mib":{memory},"disk_gib":8000,"gpus":{per_node}}}"#));
    }
    let plans: Vec<String> = PLANS
        .iter()
        .map(|(id, vcpu, memory, disk, gpus, price)| {
            format!(r#"{{"id":"{id}","vcpu":{vcpu},"mem_mib":{memory},"disk_gib":{disk},"gpus":{gpus},"overflow_per_hour":{price}}}"#)
        })
        .collect();
    format!(r#"{{"nodes":[{}],"plans":[{}],"lifetimes":"{lifetimes}"}}"#, nodes.join(","), plans.join(","))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of nodes")]
fn count(value: f64) -> u32 {
    value as u32
}

fn events(orders: &[Came]) -> String {
    let mut lines: Vec<(f64, u8, String)> = Vec::new();
    for (index, order) in orders.iter().enumerate() {
        let (at, until) = (order.at.round(), order.until.round());
        let plan = PLANS[order.plan].0;
        lines.push((
            at,
            1,
            format!(r#"{{"t":{at},"arrive":{{"order":"o{index}","plan":"{plan}","ends_at":{until}}}}}"#),
        ));
        if until < HORIZON {
            lines.push((until, 0, format!(r#"{{"t":{until},"depart":{{"order":"o{index}"}}}}"#)));
        }
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    lines.into_iter().map(|(_, _, line)| line + "\n").collect()
}

fn run(fleet: &str, events: &str, name: &str) -> Report {
    let choose = |fleet: &_, plans: &[_], lifetimes| strategy::by_name(name, fleet, plans, lifetimes).unwrap();
    replay(&read_fleet(fleet).unwrap(), events, &choose).unwrap()
}

/// How many draws of orders there are of each kind: with one, an order or two decide who is better.
const DRAWS: u64 = 5;

/// Each kind of node with each temper and draw: the orders, the kind of node, and what the case is called.
fn cases() -> Vec<(Vec<Came>, usize, String)> {
    let mut cases = Vec::new();
    for (gpu_node, (label, ..)) in GPU_NODES.iter().enumerate() {
        for (temper, temper_name) in TEMPERS {
            for draw in 0..DRAWS {
                let share = [0.06, 0.15, 0.35][gpu_node];
                let came = orders(temper, share, 11 + u64::try_from(gpu_node).unwrap() + 100 * draw);
                cases.push((came, gpu_node, format!("{label}, {temper_name}, draw {draw}")));
            }
        }
    }
    cases
}

/// Prints money by strategy and scale, and the cases where a peer was better.
pub(crate) fn table() {
    let (names, cases) = (strategy::names(), cases());
    for lifetimes in ["none", "exact"] {
        for scale in [1.0, 0.9, 1.05, 1.1] {
            let mut sums: BTreeMap<&str, (f64, f64, u64)> = BTreeMap::new();
            let mut worse = Vec::new();
            for (came, gpu_node, case) in &cases {
                let (fleet, events) = (fleet(came, *gpu_node, scale, lifetimes), events(came));
                let mut spent = Vec::new();
                for name in &names {
                    let report = run(&fleet, &events, name);
                    let sum = sums.entry(name).or_default();
                    sum.0 += report.overflow_money;
                    sum.1 += report.avoidable_money;
                    sum.2 += report.rejected_by_reserve;
                    spent.push((report.overflow_money, *name));
                }
                let best = spent[1..].iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
                if spent[0].0 > best.0 + 0.005 {
                    worse.push(format!("{case}: {:.2} against {:.2} ({})", spent[0].0, best.0, best.1));
                }
            }
            println!("\noverflow money, fleet = {scale} x peak, lifetimes {lifetimes}, {} cases", cases.len());
            println!("| strategy | money | avoidable | held back |\n|---|---|---|---|");
            for name in &names {
                let (money, avoidable, held) = sums[name];
                println!("| {name} | {money:.2} | {avoidable:.2} | {held} |");
            }
            println!("cases where a peer spent less: {}", worse.len());
            worse.iter().for_each(|case| println!("  {case}"));
        }
    }
}
