//! Files as operators write them: what is reported, and what is refused.

use nemordp_simulate::replay::{Report, read_fleet, replay};
use nemordp_simulate::{picture, strategy};

const FLEET: &str = r#"{"nodes":[
  {"id":"p1","vcpu":8,"mem_mib":32768,"disk_gib":500},
  {"id":"g1","vcpu":8,"mem_mib":32768,"disk_gib":500,"gpus":1}],
 "plans":[
  {"id":"basic","vcpu":2,"mem_mib":4096,"disk_gib":50,"overflow_per_hour":0.03},
  {"id":"gpu","vcpu":8,"mem_mib":16384,"disk_gib":200,"gpus":1,"overflow_per_hour":0.6}]}"#;

fn run(events: &str, name: &str) -> Result<Report, String> {
    let choose = |fleet: &_, plans: &[_], lifetimes| {
        strategy::by_name(name, fleet, plans, lifetimes).unwrap_or_else(|| panic!("no strategy {name}"))
    };
    let fleet = read_fleet(FLEET).map_err(|error| error.to_string())?;
    replay(&fleet, events, &choose).map_err(|error| error.to_string())
}

fn arrive(t: u32, order: &str, plan: &str) -> String {
    format!("{{\"t\":{t},\"arrive\":{{\"order\":\"{order}\",\"plan\":\"{plan}\"}}}}\n")
}

fn depart(t: u32, order: &str) -> String {
    format!("{{\"t\":{t},\"depart\":{{\"order\":\"{order}\"}}}}\n")
}

#[test]
fn an_order_that_finds_no_room_costs_until_its_end() {
    let events = arrive(0, "a", "gpu") + &arrive(0, "b", "gpu") + &depart(7_200, "b") + &depart(9_000, "a");
    for name in strategy::names() {
        let report = run(&events, name).unwrap();
        assert_eq!((report.orders, report.rejected, report.nodes_used), (2, 1, 1), "{name}");
        assert!((report.overflow_money - 1.2).abs() < 1e-9, "{name}: {}", report.overflow_money);
        assert!(report.avoidable_money.abs() < 1e-9, "{name}");
        assert!(picture::svg(&report.curve).ends_with("</svg>\n"));
    }
}

#[test]
fn our_engine_keeps_cheap_orders_off_the_dear_node() {
    let events: String = (0..4).map(|order| arrive(1, &format!("b{order}"), "basic")).collect();
    let events = events + &arrive(2, "g", "gpu");
    assert_eq!(run(&events, "nemordp").unwrap().rejected, 0);
    assert_eq!(run(&events, "worst-fit").unwrap().rejected, 1);
}

#[test]
fn a_file_that_cannot_be_used_names_line_and_fix() {
    let twice = arrive(0, "a", "basic") + &arrive(1, "a", "basic");
    let nothing = "{\"t\":0,\"arrive\":{\"order\":\"z\",\"vcpu\":0,\"mem_mib\":0}}\n";
    let negative = "{\"t\":0,\"arrive\":{\"order\":\"z\",\"vcpu\":-2}}\n";
    for (events, expected) in [
        (arrive(5, "a", "basic") + &arrive(4, "b", "basic"), "line 2: the clock goes backwards"),
        (twice, "line 2: order `a` is here already"),
        (arrive(0, "a", "none"), "line 1: `plan`"),
        (nothing.to_owned(), "line 1: all amounts are zero"),
        (negative.to_owned(), "line 1: `plan` is in no list of plans, or an amount is negative"),
        ("{\"arrive\":{}}\n".to_owned(), "line 1: `t` is missing"),
        ("no json\n".to_owned(), "line 1:"),
    ] {
        let error = run(&events, "nemordp").unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let double = r#"{"nodes":[{"id":"n","vcpu":1},{"id":"n","vcpu":1}]}"#;
    let choose = |fleet: &_, plans: &[_], lifetimes| strategy::by_name("fgd", fleet, plans, lifetimes).unwrap();
    let error = replay(&read_fleet(double).unwrap(), "", &choose).unwrap_err().to_string();
    assert!(error.contains("two nodes have the id `n`"), "{error}");
}

#[test]
fn the_same_events_give_the_same_report() {
    let mut events = String::new();
    for number in 0..200u32 {
        events += &arrive(number, &format!("o{number}"), if number % 7 == 0 { "gpu" } else { "basic" });
        if number >= 6 {
            events += &depart(number, &format!("o{}", number - 6));
        }
    }
    let (one, other) = (run(&events, "nemordp").unwrap(), run(&events, "nemordp").unwrap());
    assert_eq!((one.rejected, one.nodes_used), (other.rejected, other.nodes_used));
    assert!((one.overflow_money - other.overflow_money).abs() < 1e-12);
}
