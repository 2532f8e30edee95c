use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;

/// A judge that believes nothing: it keeps its own books and checks every answer against them.
#[derive(Default)]
struct Judge {
    free: BTreeMap<String, [i64; 4]>,
    capacity: BTreeMap<String, [i64; 4]>,
    down: BTreeSet<String>,
    lies: BTreeMap<String, (String, [i64; 4])>,
    arrivals: i64,
    moved: i64,
    per_order: i64,
    per_thousand: i64,
    overflowed: usize,
}

fn amounts(value: &Value) -> [i64; 4] {
    ["vcpu", "mem_mib", "disk_gib", "gpus"].map(|key| value[key].as_i64().unwrap_or(0))
}

impl Judge {
    fn fleet(&mut self, fleet: &Value) {
        for node in fleet["nodes"].as_array().unwrap() {
            let mut capacity = amounts(node);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]
            let vcpu = (capacity[0] as f64 * node["overcommit"].as_f64().unwrap_or(1.0)).floor() as i64;
            capacity[0] = vcpu;
            let id = node["id"].as_str().unwrap().to_owned();
            self.free.insert(id.clone(), capacity);
            self.capacity.insert(id, capacity);
        }
        self.per_order = fleet["migration_budget"]["per_order"].as_i64().unwrap_or(0);
        self.per_thousand = fleet["migration_budget"]["per_1000_orders"].as_i64().unwrap_or(0);
    }

    fn take(&mut self, order: &str, node: &str, wanted: [i64; 4]) {
        assert!(!self.down.contains(node), "{node} is down");
        let free = self.free.get_mut(node).unwrap_or_else(|| panic!("no node {node}"));
        for d in 0..4 {
            free[d] -= wanted[d];
            assert!(free[d] >= 0, "{order} on {node}: no room in {d}");
        }
        assert!(self.lies.insert(order.to_owned(), (node.to_owned(), wanted)).is_none(), "{order} lies twice");
    }

    fn give_back(&mut self, order: &str) -> Option<[i64; 4]> {
        let (node, wanted) = self.lies.remove(order)?;
        let free = self.free.get_mut(&node)?;
        (0..4).for_each(|d| free[d] += wanted[d]);
        Some(wanted)
    }

    fn check(&mut self, event: &Value, plans: &BTreeMap<String, [i64; 4]>, answer: &Value) {
        if let Some(arrive) = event.get("arrive") {
            self.arrivals += 1;
            let order = arrive["order"].as_str().unwrap();
            let wanted = arrive["plan"].as_str().map_or_else(|| amounts(arrive), |plan| plans[plan]);
            if let Some(cause) = answer.get("overflow") {
                assert!(cause == "capacity" || cause == "reserve");
                self.overflowed += 1;
                if cause == "capacity" && !self.lies.contains_key(order) {
                    let room = self
                        .free
                        .iter()
                        .find(|(id, free)| !self.down.contains(*id) && (0..4).all(|d| wanted[d] <= free[d]));
                    assert!(room.is_none(), "{order} overflowed while {room:?} had room");
                }
                return;
            }
            let moves = answer.get("migrate").map(|moves| moves.as_array().unwrap().clone()).unwrap_or_default();
            let count = i64::try_from(moves.len()).unwrap();
            self.moved += count;
            assert!(count <= self.per_order && self.moved <= self.arrivals * self.per_thousand / 1_000, "over budget");
            for step in moves {
                let (moved, to) = (step["order"].as_str().unwrap(), step["to"].as_str().unwrap());
                assert_ne!(self.lies[moved].0, to, "moved to where it lies");
                let amounts = self.give_back(moved).unwrap();
                self.take(moved, to, amounts);
            }
            self.take(order, answer["place"].as_str().unwrap(), wanted);
        } else if let Some(depart) = event.get("depart") {
            self.give_back(depart["order"].as_str().unwrap());
            assert_eq!(answer, &json!({"ok": true}));
        } else if let Some(node) = event.get("node_down").and_then(Value::as_str) {
            self.down.insert(node.to_owned());
            let lay: BTreeSet<String> =
                self.lies.iter().filter(|(_, (at, _))| at == node).map(|(id, _)| id.clone()).collect();
            let replaced = answer["replaced"].as_array().unwrap();
            let named: BTreeSet<String> =
                replaced.iter().map(|one| one["order"].as_str().unwrap().to_owned()).collect();
            assert_eq!((named.len(), &named), (replaced.len(), &lay), "each of its orders once");
            for one in replaced {
                let order = one["order"].as_str().unwrap();
                let wanted = self.give_back(order).unwrap();
                match one.get("place") {
                    Some(to) => self.take(order, to.as_str().unwrap(), wanted),
                    None => assert!(one["overflow"] == "capacity" || one["overflow"] == "reserve"),
                }
            }
        } else if let Some(node) = event.get("node_up").and_then(Value::as_str) {
            self.down.remove(node);
            assert_eq!(self.free[node], self.capacity[node], "comes back empty");
            assert_eq!(answer, &json!({"ok": true}));
        }
    }
}

/// Small numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[usize::try_from(self.below(N.try_into().unwrap())).unwrap()]
    }
}

fn a_fleet(dice: &mut Dice) -> Value {
    let nodes: Vec<Value> = (0..1 + dice.below(12))
        .map(|index| {
            let gpus = if dice.below(3) == 0 { dice.below(5) } else { 0 };
            let mut node = json!({"id": format!("nod\"e {index}"), "shape": "x", "vcpu": 1 + dice.below(64),
                "mem_mib": 1_024 * (1 + dice.below(256)), "region": "fsn1", "unknown": [1]});
            if dice.below(4) > 0 {
                node["disk_gib"] = json!(dice.below(3_000));
            }
            if gpus > 0 {
                node["gpus"] = json!(gpus);
            }
            if dice.below(3) == 0 {
                node["overcommit"] = json!(dice.pick([1.5, 2.0, 0.7, 1.1]));
            }
            node
        })
        .collect();
    let lifetimes = dice.pick(["none", "noisy", "exact"]);
    let mut fleet = json!({"nodes": nodes, "plans": [
        {"id": "basic", "vcpu": 2, "mem_mib": 4_096, "disk_gib": 50, "gpus": 0, "overflow_per_hour": 0.03},
        {"id": "performance", "vcpu": 4, "mem_mib": 8_192, "disk_gib": 0, "overflow_per_hour": 0.06},
        {"id": "gpu", "vcpu": 8, "mem_mib": 16_384, "disk_gib": null, "gpus": 1, "overflow_per_hour": 0.6},
    ], "lifetimes": lifetimes});
    if dice.below(4) > 0 {
        fleet["migration_budget"] = json!({"per_order": dice.below(5), "per_1000_orders": dice.below(400)});
    }
    fleet
}

fn an_event(dice: &mut Dice, t: &mut u64, number: u64, alive: &mut Vec<String>, nodes: &[String]) -> Value {
    *t += dice.below(100);
    let node = &nodes[usize::try_from(dice.below(nodes.len().try_into().unwrap())).unwrap()];
    match dice.below(40) {
        0 => json!({"t": t, "node_down": node}),
        1 => json!({"t": t, "node_up": node, "more": {}}),
        2..=13 if !alive.is_empty() => {
            let index = usize::try_from(dice.below(alive.len().try_into().unwrap())).unwrap();
            json!({"t": t, "depart": {"order": alive.swap_remove(index)}})
        }
        kind => {
            let id = format!("o{number}");
            alive.push(id.clone());
            let ends_at = (dice.below(3) > 0).then(|| *t + dice.below(5_000));
            let mut arrive = json!({"order": id, "ends_at": ends_at, "tenant": "t1", "unknown": 3});
            if kind < 25 {
                arrive["plan"] = json!(dice.pick(["basic", "performance", "gpu"]));
            } else {
                arrive["vcpu"] = json!(dice.below(20));
                arrive["mem_mib"] = json!(dice.below(70_000));
                arrive["gpus"] = if dice.below(6) == 0 { json!(1) } else { json!(null) };
            }
            // Now and then the clock is behind.
            json!({"t": if dice.below(50) == 0 { 0 } else { *t }, "arrive": arrive})
        }
    }
}

#[test]
fn an_independent_judge_finds_nothing_in_hundreds_of_games() {
    let (mut placed, mut overflowed, mut moved) = (0, 0, 0);
    for seed in 0..400 {
        let mut dice = Dice(seed * 7_919 + 1);
        let fleet = a_fleet(&mut dice);
        let mut judge = Judge::default();
        judge.fleet(&fleet);
        let plans = fleet["plans"].as_array().unwrap();
        let plans = plans.iter().map(|plan| (plan["id"].as_str().unwrap().to_owned(), amounts(plan))).collect();
        let nodes: Vec<String> = judge.free.keys().cloned().collect();
        let mut session = Session::default();
        let mut say = |line: &Value| -> Value {
            let message: Message = serde_json::from_value(line.clone()).unwrap();
            serde_json::from_str(&session.answer(&message).unwrap()).unwrap()
        };
        assert_eq!(say(&json!({ "fleet": fleet })), json!({"ready": true}));
        let (mut t, mut alive) = (0, Vec::new());
        for number in 0..300 {
            let mut event = an_event(&mut dice, &mut t, number, &mut alive, &nodes);
            if event.get("node_up").is_some_and(|node| !judge.down.contains(node.as_str().unwrap())) {
                event = json!({"t": t, "node_down": event["node_up"]});
            }
            let answer = say(&event);
            judge.check(&event, &plans, &answer);
        }
        placed += judge.lies.len();
        overflowed += judge.overflowed;
        moved += judge.moved;
    }
    assert!(
        placed > 1_000 && overflowed > 1_000 && moved > 100,
        "the games are no test: {placed} {overflowed} {moved}"
    );
}

fn game(input: &str) -> (Vec<String>, Result<(), ProtocolError>) {
    let mut output = Vec::new();
    let result = play(input.as_bytes(), &mut output);
    (String::from_utf8(output).unwrap().lines().map(str::to_owned).collect(), result)
}

const FLEET: &str = r#"{"fleet":{"nodes":[{"id":"n1","vcpu":4,"mem_mib":4096},{"id":"n2","vcpu":4,"mem_mib":4096}],"plans":null,"migration_budget":null,"lifetimes":null,"x":1}}"#;

#[test]
fn the_input_may_end_anywhere() {
    let whole =
        format!("{FLEET}\n{{\"t\":1,\"arrive\":{{\"order\":\"a\",\"vcpu\":4}}}}\n{{\"t\":2,\"node_down\":\"n1\"}}\n");
    for end in 0..=whole.len() {
        let (answers, result) = game(&whole[..end]);
        result.unwrap();
        assert!(answers.len() <= 3);
    }
    let (answers, _) = game(&whole);
    let place: Value = serde_json::from_str(&answers[1]).unwrap();
    let replaced = if place["place"] == "n1" { json!([{"order": "a", "place": "n2"}]) } else { json!([]) };
    assert_eq!(serde_json::from_str::<Value>(&answers[2]).unwrap(), json!({ "replaced": replaced }));
}

#[test]
fn the_same_game_is_played_the_same_way() {
    let play_once = || {
        let mut dice = Dice(99);
        let fleet = a_fleet(&mut dice);
        let nodes: Vec<String> =
            fleet["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect();
        let mut lines = vec![json!({ "fleet": fleet }).to_string()];
        let (mut t, mut alive) = (0, Vec::new());
        for number in 0..500 {
            lines.push(an_event(&mut dice, &mut t, number, &mut alive, &nodes).to_string());
        }
        game(&(lines.join("\n") + "\n")).0
    };
    assert_eq!(play_once(), play_once());
}

#[test]
fn strange_events_are_answered_and_harm_nothing() {
    let input = [
        FLEET,
        r#"{"t":5,"arrive":{"order":"a","plan":"unheard of"}}"#,
        r#"{"t":5,"arrive":{"order":"a","vcpu":-1}}"#,
        r#"{"t":5,"arrive":{"order":"a","vcpu":3,"mem_mib":1}}"#,
        r#"{"t":5,"arrive":{"order":"a","vcpu":1,"mem_mib":1}}"#,
        r#"{"t":1,"depart":{"order":"never seen"}}"#,
        r#"{"t":6,"node_down":"n9"}"#,
        r#"{"t":6,"node_up":"n9"}"#,
        "",
        r#"{"t":6}"#,
        r#"{"t":7,"arrive":{"order":"z","vcpu":0}}"#,
        r#"{"t":7,"arrive":{"order":"giant","vcpu":99999999999}}"#,
    ];
    let (answers, result) = game(&(input.join("\n") + "\n"));
    result.unwrap();
    let overflow = r#"{"overflow":"capacity"}"#;
    let ok = r#"{"ok":true}"#;
    assert_eq!(answers[1..3], [overflow; 2]);
    assert!(answers[3].contains("place"));
    assert_eq!(answers[4], overflow, "the same id twice");
    assert_eq!(answers[5..9], [ok, r#"{"replaced":[]}"#, ok, ok]);
    assert!(answers[9].contains("place"));
    assert_eq!(answers[10], overflow);
}

#[test]
fn a_fleet_with_a_double_id_is_refused_by_name() {
    let (_, result) = game("{\"fleet\":{\"nodes\":[{\"id\":\"n1\"},{\"id\":\"n1\"}]}}\n");
    assert!(result.unwrap_err().to_string().contains("`n1`"));
}

#[test]
fn moves_make_room_for_a_blocked_order() {
    let mut input =
        FLEET.replace(r#""migration_budget":null"#, r#""migration_budget":{"per_order":3,"per_1000_orders":1000}"#);
    for (order, vcpu) in [("a", 2), ("b", 2), ("c", 2)] {
        input += &format!("\n{{\"t\":1,\"arrive\":{{\"order\":\"{order}\",\"vcpu\":{vcpu}}}}}");
    }
    // One node is full, the other half full; the first of the pair leaves, so that each has two of four.
    input += "\n{\"t\":2,\"depart\":{\"order\":\"a\"}}\n{\"t\":3,\"arrive\":{\"order\":\"d\",\"vcpu\":4}}\n";
    let (answers, result) = game(&input);
    result.unwrap();
    let last: Value = serde_json::from_str(answers.last().unwrap()).unwrap();
    assert_eq!(last["migrate"].as_array().unwrap().len(), 1, "{answers:?}");
}

#[test]
fn a_stranger_goes_elsewhere_where_the_largest_plan_needs_most_of_a_node() {
    let fleet = r#"{"fleet":{"nodes":[{"id":"n1","vcpu":24,"mem_mib":65536},{"id":"n2","vcpu":24,"mem_mib":65536}],
        "plans":[{"id":"small","vcpu":2,"mem_mib":4096},{"id":"large","vcpu":16,"mem_mib":49152}]}}"#;
    let lies_with_others = |tenant: &str| {
        let mut input = fleet.replace('\n', "");
        // The second node is the emptier one: nothing but whose orders lie there speaks for it.
        for (order, tenant, plan) in
            [("a", "1", "small"), ("b", "1", "small"), ("c", "1", "large"), ("d", "2", "large")]
        {
            input +=
                &format!("\n{{\"t\":1,\"arrive\":{{\"order\":\"{order}\",\"plan\":\"{plan}\",\"tenant\":{tenant}}}}}");
        }
        input += &format!("\n{{\"t\":2,\"arrive\":{{\"order\":\"e\",\"plan\":\"small\",\"tenant\":{tenant}}}}}\n");
        let (answers, result) = game(&input);
        result.unwrap();
        answers[1] == *answers.last().unwrap()
    };
    // Equal values are one customer, whatever they are.
    assert!(lies_with_others("1"));
    assert!(!lies_with_others("2"));
    assert!(lies_with_others("null"));
}
