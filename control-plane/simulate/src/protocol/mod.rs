//! The game against a judge: one event in, one answer out, JSON lines both ways.

#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};

use crate::engine::Engine;
use crate::game::{Arrived, Game};
use crate::message::Message;
use crate::strategy::Cause;

/// Why the game cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A line is no JSON object of the protocol.
    #[error("line {line}: {why}")]
    Line {
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The judge is gone in the middle of a line, or no longer reads.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
}

/// Plays until the input ends. Everything that is written is an answer, and each is flushed before the next line is read.
///
/// # Errors
/// A line that cannot be understood; the end of the input is none.
pub fn play(mut input: impl BufRead, mut output: impl Write) -> Result<(), ProtocolError> {
    let (mut session, mut line, mut number) = (Session::default(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let message: Message = match serde_json::from_slice(&line) {
            Ok(message) => message,
            // The input may end anywhere, in the middle of a line too.
            Err(_) if !whole => return Ok(()),
            Err(error) => return Err(ProtocolError::Line { line: number, why: error.to_string() }),
        };
        let mut answer = session.answer(&message).map_err(|why| ProtocolError::Line { line: number, why })?;
        answer.push('\n');
        output.write_all(answer.as_bytes())?;
        output.flush()?;
    }
}

/// One game.
#[derive(Default)]
struct Session {
    game: Option<Game>,
}

impl Session {
    fn answer(&mut self, message: &Message) -> Result<String, String> {
        if let Some(fleet) = &message.fleet {
            let ours = |fleet: &_, plans: &[_], lifetimes| -> Box<dyn crate::strategy::Strategy> {
                Box::new(Engine::new(fleet, plans, lifetimes))
            };
            self.game = Some(Game::new(fleet, &ours)?);
            return Ok(r#"{"ready":true}"#.to_owned());
        }
        let game = self.game.as_mut().ok_or("the first line must describe the fleet")?;
        game.pass(message.t.unwrap_or(game.now()));
        if let Some(arrive) = &message.arrive {
            let arrived = game.arrive(arrive);
            return Ok(placed(game, arrived));
        }
        if let Some(node) = &message.node_down {
            return Ok(replaced(game, node));
        }
        if let Some(node) = &message.node_up {
            game.node_up(node);
        } else if let Some(order) = message.depart.as_ref().and_then(|depart| depart.order.as_ref()) {
            game.depart(order);
        }
        Ok(r#"{"ok":true}"#.to_owned())
    }
}

fn placed(game: &Game, arrived: Arrived) -> String {
    let (node, moves) = match arrived {
        Arrived::Placed { node, moves } => (node, moves),
        Arrived::Overflowed(cause) => return format!(r#"{{"overflow":"{}"}}"#, word(cause)),
    };
    let mut answer = String::from("{");
    if !moves.is_empty() {
        answer.push_str(r#""migrate":["#);
        for (index, (order, to)) in moves.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (order, to) = (quoted(order), quoted(game.node_id(*to)));
            answer += &format!(r#"{comma}{{"order":{order},"to":{to}}}"#);
        }
        answer.push_str("],");
    }
    answer += &format!(r#""place":{}}}"#, quoted(game.node_id(node)));
    answer
}

fn replaced(game: &mut Game, id: &str) -> String {
    let mut answer = String::from(r#"{"replaced":["#);
    for (index, (order, place)) in game.node_down(id).into_iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let order = quoted(&order);
        answer += &match place {
            Ok(node) => format!(r#"{comma}{{"order":{order},"place":{}}}"#, quoted(game.node_id(node))),
            Err(cause) => format!(r#"{comma}{{"order":{order},"overflow":"{}"}}"#, word(cause)),
        };
    }
    answer.push_str("]}");
    answer
}

const fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Capacity => "capacity",
        Cause::Reserve => "reserve",
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    // Strings always have a JSON form.
    serde_json::to_string(text).unwrap_or_default()
}
