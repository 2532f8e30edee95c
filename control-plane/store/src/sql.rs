//! One way to ask both databases: values in, rows out, the same text for both.
//!
//! `driver!` expands the same body for SQLite and for PostgreSQL over their typed executors; everything above this file
//! is written once. `$1` placeholders mean the same to both; many rows go into one statement as [`Rows`].

pub(crate) mod together;

use sqlx::{AssertSqlSafe, Postgres, Row as _, SqlSafeStr as _, SqlStr, Sqlite, ValueRef as _};

use crate::error::{Result, StoreError};
use crate::rows::Rows;

/// A bound value; NULLs keep their type, which PostgreSQL wants to know.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Blob(Option<Vec<u8>>),
}

/// A statement with its values; `table` names where inconsistent rows come from.
pub(crate) struct Query {
    pub(crate) table: &'static str,
    sqlite: SqlStr,
    postgres: SqlStr,
    values: Vec<Value>,
    rows: Option<Rows>,
}

impl Query {
    pub(crate) fn new(table: &'static str, sql: &'static str, values: Vec<Value>) -> Self {
        Self { table, sqlite: sql.into_sql_str(), postgres: sql.into_sql_str(), values, rows: None }
    }

    /// A statement over many rows at once: `{rows}` in the text is a relation with the rows' columns, whose placeholders
    /// follow those of the values.
    pub(crate) fn over(table: &'static str, sql: &'static str, values: Vec<Value>, rows: Rows) -> Self {
        let next = values.len() + 1;
        Self {
            table,
            sqlite: own(sql.replace("{rows}", &rows.as_json_relation(next))),
            postgres: own(sql.replace("{rows}", &rows.as_array_relation(next))),
            values,
            rows: Some(rows),
        }
    }

    /// Over how many rows it runs.
    pub(crate) fn rows(&self) -> usize {
        self.rows.as_ref().map_or(0, Rows::len)
    }

    /// How many values PostgreSQL's text waits for.
    fn placeholders(&self) -> usize {
        self.values.len() + self.rows.as_ref().map_or(0, Rows::width)
    }

    /// Where PostgreSQL needs another text: row locks, which SQLite's single writer makes unnecessary.
    pub(crate) fn on_postgres(mut self, sql: &'static str) -> Self {
        self.postgres = match &self.rows {
            None => sql.into_sql_str(),
            Some(rows) => own(sql.replace("{rows}", &rows.as_array_relation(self.values.len() + 1))),
        };
        self
    }
}

/// The texts are this crate's own; what comes from outside is bound, never written into them.
fn own(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

/// Shorthand for a vector of [`Value`]s.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Value::from($value)),*] };
}
pub(crate) use values;

/// A row of either database.
pub(crate) struct Row {
    inner: Inner,
    pub(crate) table: &'static str,
}

enum Inner {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

macro_rules! on_row {
    ($row:expr, |$inner:ident| $body:expr) => {
        match &$row.inner {
            Inner::Sqlite($inner) => $body,
            Inner::Postgres($inner) => $body,
        }
    };
}

impl Row {
    pub(crate) fn is_null(&self, column: &str) -> Result<bool> {
        on_row!(self, |row| Ok(row.try_get_raw(column).map_err(|e| self.wrong(column, &e))?.is_null()))
    }

    pub(crate) fn int(&self, column: &str) -> Result<i64> {
        on_row!(self, |row| row.try_get::<i64, _>(column).map_err(|e| self.wrong(column, &e)))
    }

    pub(crate) fn text(&self, column: &str) -> Result<String> {
        on_row!(self, |row| row.try_get::<String, _>(column).map_err(|e| self.wrong(column, &e)))
    }

    pub(crate) fn blob(&self, column: &str) -> Result<Vec<u8>> {
        on_row!(self, |row| row.try_get::<Vec<u8>, _>(column).map_err(|e| self.wrong(column, &e)))
    }

    /// An inconsistency of this row.
    pub(crate) fn wrong(&self, column: &str, detail: &dyn std::fmt::Display) -> StoreError {
        let id = on_row!(self, |row| row.try_get::<Vec<u8>, _>("id").ok());
        StoreError::Inconsistency {
            table: self.table,
            column: column.to_owned(),
            row: id.and_then(|id| uuid::Uuid::from_slice(&id).ok()).map_or_else(String::new, |id| id.to_string()),
            detail: detail.to_string(),
        }
    }
}

macro_rules! driver {
    ($module:ident, $database:ty, $text:ident, $row:path, $bind_rows:path) => {
        pub(crate) mod $module {
            use super::*;

            type Prepared = sqlx::query::Query<'static, $database, <$database as sqlx::Database>::Arguments>;

            fn prepare(query: &Query) -> Prepared {
                bind(query, sqlx::query::<$database>(query.$text.clone()))
            }

            /// Adds the query's values to what is bound already.
            pub(super) fn bind(query: &Query, mut prepared: Prepared) -> Prepared {
                for value in &query.values {
                    prepared = match value.clone() {
                        Value::Int(value) => prepared.bind(value),
                        Value::Text(value) => prepared.bind(value),
                        Value::Blob(value) => prepared.bind(value),
                    };
                }
                match &query.rows {
                    Some(rows) => $bind_rows(rows, prepared),
                    None => prepared,
                }
            }

            pub(crate) async fn fetch<'e, E>(executor: E, query: &Query) -> Result<Vec<Row>>
            where
                E: sqlx::Executor<'e, Database = $database>,
            {
                let rows = prepare(query).fetch_all(executor).await?;
                Ok(rows.into_iter().map(|row| Row { inner: $row(row), table: query.table }).collect())
            }

            pub(crate) async fn execute<'e, E>(executor: E, query: &Query) -> Result<u64>
            where
                E: sqlx::Executor<'e, Database = $database>,
            {
                Ok(prepare(query).execute(executor).await?.rows_affected())
            }
        }
    };
}

driver!(sqlite, Sqlite, sqlite, Inner::Sqlite, Rows::bind_json);
driver!(postgres, Postgres, postgres, Inner::Postgres, Rows::bind_arrays);
