//! Bringing the schema up, and refusing one that a newer version made.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::error::{Result, StoreError};
use crate::open::Pools;
use crate::sql::Query;
use crate::transaction::{Reader, Sql as _};

macro_rules! migrations {
    ($($version:literal $name:literal,)*) => {
        /// Version, name, text.
        const MIGRATIONS: &[(i64, &str, &str)] = &[
            $(($version, $name, include_str!(concat!("../migrations/", $name, ".sql"))),)*
        ];
    };
}

migrations! {
    1 "0001_installation",
    2 "0002_tenant",
    3 "0003_api_key",
    4 "0004_plan",
    5 "0005_template",
    6 "0006_node",
    7 "0007_node_pool",
    8 "0008_certificate",
    9 "0009_ticket",
    10 "0010_customer_order",
    11 "0011_instance",
    12 "0012_reservation",
    13 "0013_pool_claim",
    14 "0014_saga",
    15 "0015_saga_step",
    16 "0016_idempotency",
    17 "0017_event",
    18 "0018_secret",
    20 "0020_reservation_sequence",
    21 "0021_customer_order_placement",
    22 "0022_node_policy_reason",
    30 "0030_instance_suspended_at",
    31 "0031_instance_delete_after",
    32 "0032_saga_former",
    40 "0040_frozen",
    41 "0041_reconciler",
    42 "0042_event_number",
    43 "0043_certificate_role",
    50 "0050_node_template_presence",
    51 "0051_node_clock_skew",
    52 "0052_node_doubled_at",
    53 "0053_node_session",
    54 "0054_certificate_flagged_at",
    55 "0055_usage",
    56 "0056_suspension",
    80 "0080_instance_misaligned_at",
    81 "0081_node_taken_ports",
    90 "0090_node_labels",
    91 "0091_node_pinned_to",
    92 "0092_plan_labels",
    93 "0093_tenant_pinned",
    94 "0094_instance_labels",
    95 "0095_instance_placement_group",
    100 "0100_node_gpu",
    101 "0101_plan_gpus",
    102 "0102_reservation_gpus",
    103 "0103_instance_any_gpu_model",
    104 "0104_instance_paid_until",
    105 "0105_node_held_back",
    106 "0106_slot_reserve",
    120 "0120_saga_unended",
}

/// SQLite's words and PostgreSQL's, outside of comments.
const WORDS: &[(&str, &str)] =
    &[(" INTEGER", " BIGINT"), (" BLOB", " BYTEA"), (" TEXT", " TEXT COLLATE \"C\""), (") STRICT;", ");")];

/// The newest schema that this version knows.
pub const SCHEMA_VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

pub(crate) async fn run(pools: &Pools) -> Result<()> {
    let outcome = match pools {
        Pools::Sqlite { writer, .. } => migrator(str::to_owned).run(writer.alone().await?.connection()?).await,
        Pools::Postgres(pool) => migrator(for_postgres).run(pool).await,
    };
    outcome.map_err(|error| StoreError::Driver(error.to_string()))
}

/// The schema that a database has; none when it has none.
pub(crate) async fn version(pools: &Pools) -> Result<Option<i64>> {
    let there =
        Query::new("_sqlx_migrations", "SELECT name FROM sqlite_master WHERE name = '_sqlx_migrations'", vec![])
            .on_postgres("SELECT tablename AS name FROM pg_tables WHERE tablename = '_sqlx_migrations'");
    if Reader(pools).fetch_optional(there).await?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) AS version FROM _sqlx_migrations";
    let row = Reader(pools).fetch_optional(Query::new("_sqlx_migrations", sql, vec![])).await?;
    row.map(|row| row.get("version")).transpose()
}

/// Refuses a database whose schema this version does not know.
pub(crate) async fn refuse_newer(pools: &Pools) -> Result<()> {
    match version(pools).await? {
        Some(found) if found > SCHEMA_VERSION => Err(StoreError::SchemaTooNew { found, known: SCHEMA_VERSION }),
        Some(_) | None => Ok(()),
    }
}

fn migrator(dialect: fn(&str) -> String) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, text)| {
        let sql = AssertSqlSafe(dialect(text)).into_sql_str();
        Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

fn for_postgres(text: &str) -> String {
    WORDS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_ascend_and_stand_in_their_names() {
        assert!(MIGRATIONS.is_sorted_by(|(one, ..), (next, ..)| one < next), "a version stands twice, or out of order");
        for (version, name, _) in MIGRATIONS {
            assert!(name.starts_with(&format!("{version:04}_")), "{name}");
        }
    }

    #[test]
    fn every_migration_file_is_listed() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        let count = files.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "sql")).count();
        assert_eq!(count, MIGRATIONS.len());
    }
}
