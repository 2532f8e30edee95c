//! The table of all strategies: fewest nodes that host a trace, money spent on overflow, speed.
//!
//! `placement [TRACE.csv [ONE_IN]]`: the trace is cut into halves by customer and by time; ONE_IN keeps one customer in so
//! many. Without a trace only what needs none is measured. PART=money, fewest or speed measures one part.
#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

mod dice;
mod fewest;
mod money;
mod speed;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let part = std::env::var("PART").unwrap_or_default();
    let wanted = |name: &str| part.is_empty() || part == name;
    if wanted("money") {
        money::table();
    }
    if wanted("speed") {
        speed::table();
    }
    if let Some(path) = arguments.first().filter(|_| wanted("fewest")) {
        let one_in = arguments.get(1).map_or(1, |text| text.parse().unwrap());
        fewest::table(&std::fs::read_to_string(path).unwrap(), one_in);
    }
}
