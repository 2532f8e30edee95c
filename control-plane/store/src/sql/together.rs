//! Several writes in one statement of PostgreSQL, so that a transaction with few rows does not spend its time on the way
//! between two processes.
//!
//! Each becomes a data-modifying part of one WITH (PostgreSQL 15, 7.8.4). All parts see what was there before the statement
//! and none sees what another changes, so they must be about different tables; foreign keys are checked at its end.

use std::fmt::Write as _;

use sqlx::{Executor, Postgres, Row as _};

use super::{Query, own};
use crate::error::Result;

/// Runs them all; gives how many rows each of them changed.
pub(crate) async fn execute<'e, E>(executor: E, writes: &[Query]) -> Result<Vec<u64>>
where
    E: Executor<'e, Database = Postgres>,
{
    let mut prepared = sqlx::query::<Postgres>(own(text(writes)));
    for write in writes {
        prepared = super::postgres::bind(write, prepared);
    }
    let counts = prepared.fetch_one(executor).await?;
    let count = |at: usize| Ok(u64::try_from(counts.try_get::<i64, _>(at)?).unwrap_or_default());
    (0..writes.len()).map(count).collect()
}

fn text(writes: &[Query]) -> String {
    let (mut parts, mut counts, mut taken) = (String::from("WITH "), String::from(" SELECT "), 0);
    for (at, write) in writes.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(parts, "{comma}w{at} AS (").unwrap_or_default();
        renumber(write.postgres.as_str(), taken, &mut parts);
        parts.push_str(" RETURNING 1)");
        write!(counts, "{comma}(SELECT COUNT(*) FROM w{at})").unwrap_or_default();
        taken += write.placeholders();
    }
    parts + &counts
}

/// Appends the text with every `$n` as `$(n + by)`. In no text of this crate a dollar sign means anything else.
fn renumber(text: &str, by: usize, into: &mut String) {
    let mut parts = text.split('$');
    into.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        write!(into, "${}{rest}", number.parse::<usize>().unwrap_or_default() + by).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Kind, Rows};
    use crate::sql::values;

    #[test]
    fn each_write_keeps_its_own_values() {
        let mut rows = Rows::new(&[("id", Kind::Int), ("name", Kind::Text)]);
        rows.push(values![1u32, "one"]);
        let first = Query::over("a", "INSERT INTO a SELECT id, name, $1 FROM {rows} AS r", values![7u32], rows.clone());
        let second = Query::over("b", "DELETE FROM b WHERE id IN (SELECT id FROM {rows} AS r)", vec![], rows);
        assert_eq!(
            text(&[first, second]),
            "WITH w0 AS (INSERT INTO a SELECT id, name, $1 FROM \
             (SELECT * FROM UNNEST($2::bigint[], $3::text[]) AS u(id, name)) AS r RETURNING 1), \
             w1 AS (DELETE FROM b WHERE id IN (SELECT id FROM \
             (SELECT * FROM UNNEST($4::bigint[], $5::text[]) AS u(id, name)) AS r) RETURNING 1) \
             SELECT (SELECT COUNT(*) FROM w0), (SELECT COUNT(*) FROM w1)"
        );
    }

    #[test]
    fn numbers_of_two_digits_are_one_number() {
        let mut text = String::new();
        renumber("$1 $12, $3)", 9, &mut text);
        assert_eq!(text, "$10 $21, $12)");
    }
}
