//! Many rows in one statement, by the same text on both databases.
//!
//! PostgreSQL gets one array per column (`UNNEST`), SQLite one JSON text (`json_each`): both keep one prepared statement
//! whatever the number of rows, and neither has a limit of placeholders that a burst would meet.

use std::fmt::Write as _;

use sqlx::query::Query;
use sqlx::{Database, Postgres, Sqlite};

use crate::sql::Value;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Blob,
}

/// A column's values.
#[derive(Debug, Clone)]
enum Column {
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Blobs(Vec<Option<Vec<u8>>>),
}

/// Rows of equal width, kept by column.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    names: &'static [(&'static str, Kind)],
    columns: Vec<Column>,
    len: usize,
}

impl Rows {
    pub(crate) fn new(names: &'static [(&'static str, Kind)]) -> Self {
        let columns = names.iter().map(|(_, kind)| match kind {
            Kind::Int => Column::Ints(Vec::new()),
            Kind::Text => Column::Texts(Vec::new()),
            Kind::Blob => Column::Blobs(Vec::new()),
        });
        Self { names, columns: columns.collect(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many columns there are.
    pub(crate) fn width(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more row, in the order of the columns. A value of another kind is NULL, which the table refuses.
    pub(crate) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.len += 1;
        for (column, value) in self.columns.iter_mut().zip(row) {
            match column {
                Column::Ints(ints) => ints.push(if let Value::Int(int) = value { int } else { None }),
                Column::Texts(texts) => texts.push(if let Value::Text(text) = value { text } else { None }),
                Column::Blobs(blobs) => blobs.push(if let Value::Blob(blob) = value { blob } else { None }),
            }
        }
    }

    /// The relation as PostgreSQL reads it, its first placeholder being `$first`.
    pub(crate) fn as_array_relation(&self, first: usize) -> String {
        let (mut arrays, mut names) = (Vec::new(), Vec::new());
        for (index, (name, kind)) in self.names.iter().enumerate() {
            let array = match kind {
                Kind::Int => "bigint[]",
                Kind::Text => "text[]",
                Kind::Blob => "bytea[]",
            };
            arrays.push(format!("${}::{array}", first + index));
            names.push(*name);
        }
        format!("(SELECT * FROM UNNEST({}) AS u({}))", arrays.join(", "), names.join(", "))
    }

    /// The relation as SQLite reads it, from the one JSON text at `$first`.
    pub(crate) fn as_json_relation(&self, first: usize) -> String {
        let columns: Vec<String> = self
            .names
            .iter()
            .enumerate()
            .map(|(index, (name, kind))| match kind {
                Kind::Int | Kind::Text => format!("value ->> {index} AS {name}"),
                Kind::Blob => format!("unhex(value ->> {index}) AS {name}"),
            })
            .collect();
        format!("(SELECT {} FROM json_each(${first}))", columns.join(", "))
    }

    pub(crate) fn bind_arrays<'q>(
        &self,
        mut query: Query<'q, Postgres, <Postgres as Database>::Arguments>,
    ) -> Query<'q, Postgres, <Postgres as Database>::Arguments> {
        for column in &self.columns {
            query = match column {
                Column::Ints(ints) => query.bind(ints.clone()),
                Column::Texts(texts) => query.bind(texts.clone()),
                Column::Blobs(blobs) => query.bind(blobs.clone()),
            };
        }
        query
    }

    pub(crate) fn bind_json<'q>(
        &self,
        query: Query<'q, Sqlite, <Sqlite as Database>::Arguments>,
    ) -> Query<'q, Sqlite, <Sqlite as Database>::Arguments> {
        query.bind(self.to_json())
    }

    fn to_json(&self) -> String {
        let mut text = String::from("[");
        for row in 0..self.len {
            text.push_str(if row == 0 { "[" } else { ",[" });
            for (index, column) in self.columns.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                match column {
                    Column::Ints(ints) => match ints[row] {
                        Some(int) => write!(text, "{int}").unwrap_or_default(),
                        None => text.push_str("null"),
                    },
                    Column::Texts(texts) => match &texts[row] {
                        Some(value) => text.push_str(&serde_json::Value::from(value.as_str()).to_string()),
                        None => text.push_str("null"),
                    },
                    Column::Blobs(blobs) => match &blobs[row] {
                        Some(bytes) => {
                            text.push('"');
                            for byte in bytes {
                                write!(text, "{byte:02x}").unwrap_or_default();
                            }
                            text.push('"');
                        }
                        None => text.push_str("null"),
                    },
                }
            }
            text.push(']');
        }
        text.push(']');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_one_json_text_and_one_relation() {
        let mut rows = Rows::new(&[("id", Kind::Blob), ("name", Kind::Text), ("amount", Kind::Int)]);
        rows.push(vec![Value::Blob(Some(vec![0, 255])), Value::Text(Some("a\"b".to_owned())), Value::Int(Some(-1))]);
        rows.push(vec![Value::Blob(None), Value::Text(None), Value::Int(None)]);
        assert_eq!(rows.to_json(), r#"[["00ff","a\"b",-1],[null,null,null]]"#);
        assert_eq!(
            rows.as_json_relation(2),
            "(SELECT unhex(value ->> 0) AS id, value ->> 1 AS name, value ->> 2 AS amount FROM json_each($2))"
        );
        assert_eq!(
            rows.as_array_relation(2),
            "(SELECT * FROM UNNEST($2::bytea[], $3::text[], $4::bigint[]) AS u(id, name, amount))"
        );
    }
}
