//! Tables for people, JSON for scripts.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::error::Error;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts: what the API answered.
    Json,
}

/// Something with columns.
pub trait Row {
    /// The heads of the columns.
    const HEADS: &'static [&'static str];

    /// One cell for each head.
    fn cells(&self) -> Vec<String>;
}

/// Writes answers to the standard output.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
}

impl Output {
    /// With the chosen format.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether people read it on a terminal: progress bars make sense.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        self.format == Format::Table && io::stderr().is_terminal()
    }

    /// Whether people read it, on a terminal or in a log.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// A list.
    pub fn rows<T: Row + Serialize>(&self, rows: &[T]) -> Result<(), Error> {
        match self.format {
            Format::Json => self.json(&rows),
            Format::Table => {
                let mut table = plain_table();
                table.set_header(T::HEADS);
                for row in rows {
                    table.add_row(row.cells());
                }
                Ok(writeln!(io::stdout().lock(), "{table}")?)
            }
        }
    }

    /// One thing, a line per property.
    pub fn one<T: Row + Serialize>(&self, thing: &T) -> Result<(), Error> {
        match self.format {
            Format::Json => self.json(thing),
            Format::Table => {
                let mut table = plain_table();
                for (head, cell) in T::HEADS.iter().zip(thing.cells()) {
                    table.add_row([(*head).to_owned(), cell]);
                }
                Ok(writeln!(io::stdout().lock(), "{table}")?)
            }
        }
    }

    /// A text for people, or the thing itself for scripts.
    pub fn text(&self, text: &str, thing: &impl Serialize) -> Result<(), Error> {
        match self.format {
            Format::Json => self.json(thing),
            Format::Table => Ok(writeln!(io::stdout().lock(), "{text}")?),
        }
    }

    fn json(&self, thing: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(thing).map_err(io::Error::other)?;
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// A cell of several words.
pub fn list(words: &[String]) -> String {
    cell((!words.is_empty()).then(|| words.join(", ")))
}

/// A cell of something that may be absent.
pub fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
