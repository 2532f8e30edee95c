//! The store, read with SQL of our own: nothing here shares a line with the product's store.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Column as _, PgPool, Row as _, SqlitePool};

use super::{Result, StoreKind, unusable};

/// One row, every column as text.
#[derive(Debug, Clone, Default)]
pub struct Row(HashMap<String, Option<String>>);

impl Row {
    /// A column; empty when it is NULL or missing.
    #[must_use]
    pub fn text(&self, column: &str) -> &str {
        self.0.get(column).and_then(Option::as_deref).unwrap_or_default()
    }

    /// A column as a number; zero when it is none.
    #[must_use]
    pub fn number(&self, column: &str) -> i64 {
        self.text(column).parse().unwrap_or_default()
    }

    /// A column as JSON; null when it is none.
    #[must_use]
    pub fn json(&self, column: &str) -> serde_json::Value {
        serde_json::from_str(self.text(column)).unwrap_or_default()
    }
}

/// A connection that only reads.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

impl Database {
    pub(super) async fn open(kind: StoreKind, url: &str) -> Result<Self> {
        Ok(match kind {
            StoreKind::Sqlite => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(url).read_only(true);
                Self::Sqlite(sqlx::sqlite::SqlitePoolOptions::new().max_connections(2).connect_with(options).await?)
            }
            StoreKind::Postgres => {
                Self::Postgres(sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(url).await?)
            }
        })
    }

    pub(super) async fn writable(kind: StoreKind, url: &str) -> Result<Self> {
        Ok(match kind {
            StoreKind::Sqlite => {
                // As the product's store opens its own: a commit is on the disk when it returns.
                let options = sqlx::sqlite::SqliteConnectOptions::new()
                    .filename(url)
                    .create_if_missing(true)
                    .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                    .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
                    .busy_timeout(std::time::Duration::from_secs(30));
                Self::Sqlite(sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await?)
            }
            StoreKind::Postgres => Self::open(kind, url).await?,
        })
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// It fails.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let text = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(pool) => {
                sqlx::query(text).execute(pool).await?;
            }
            Self::Postgres(pool) => {
                sqlx::query(text).execute(pool).await?;
            }
        }
        Ok(())
    }

    /// The names of a table's columns.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn columns(&self, table: &str) -> Result<Vec<String>> {
        let query = match self {
            Self::Sqlite(_) => format!("SELECT name FROM pragma_table_info('{table}')"),
            Self::Postgres(_) => {
                format!("SELECT column_name AS name FROM information_schema.columns WHERE table_name = '{table}'")
            }
        };
        Ok(self.rows(&query).await?.iter().map(|row| row.text("name").to_owned()).collect())
    }

    /// Rows of a query. `#column#` gives an id in hex; everything else must be text: `CAST(x AS TEXT)`.
    ///
    /// # Errors
    /// The query or the connection fails.
    pub async fn rows(&self, query: &str) -> Result<Vec<Row>> {
        let text = self.dialect(query)?;
        match self {
            Self::Sqlite(pool) => {
                let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(pool).await?;
                rows.iter()
                    .map(|row| row.columns().iter().map(|c| cell(c.name(), row.try_get(c.ordinal()))).collect())
                    .collect()
            }
            Self::Postgres(pool) => {
                let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(pool).await?;
                rows.iter()
                    .map(|row| row.columns().iter().map(|c| cell(c.name(), row.try_get(c.ordinal()))).collect())
                    .collect()
            }
        }
    }

    /// The number in the only column of the only row.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub async fn count(&self, query: &str) -> Result<i64> {
        let rows = self.rows(query).await?;
        Ok(rows.first().map_or(0, |row| row.number("n")))
    }

    fn dialect(&self, query: &str) -> Result<String> {
        let mut text = String::new();
        for (index, part) in query.split('#').enumerate() {
            match (index % 2 == 1, self) {
                (false, _) => text.push_str(part),
                (true, Self::Sqlite(_)) => text.push_str(&format!("lower(hex({part}))")),
                (true, Self::Postgres(_)) => text.push_str(&format!("encode({part}, 'hex')")),
            }
        }
        if query.matches('#').count() % 2 == 1 {
            return Err(unusable(query, "an odd number of #"));
        }
        Ok(text)
    }
}

fn cell(name: &str, value: std::result::Result<Option<String>, sqlx::Error>) -> Result<(String, Option<String>)> {
    Ok((name.to_owned(), value?))
}

impl FromIterator<(String, Option<String>)> for Row {
    fn from_iter<I: IntoIterator<Item = (String, Option<String>)>>(cells: I) -> Self {
        Self(cells.into_iter().collect())
    }
}
