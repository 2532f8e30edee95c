use std::path::PathBuf;

use nemordp_store::{SCHEMA_VERSION, StoreError};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use crate::support::{World, on_both_stores};

on_both_stores! {
    the_migrated_schema_equals_its_golden_dump
    a_schema_that_is_newer_is_refused
}

/// Columns with type and nullability, constraints and indexes, as PostgreSQL itself writes them.
const POSTGRES_DUMP: &str = "SELECT line FROM (
    SELECT c.relname AS t, 1 AS k, format('%s.%s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
        coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')) AS line, a.attnum AS n
    FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace AND s.nspname = 'public'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relkind = 'r'
    UNION ALL
    SELECT c.relname, 2, format('%s: %s', c.relname, pg_get_constraintdef(o.oid)), 0
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace s ON s.oid = c.relnamespace
    WHERE s.nspname = 'public' AND o.contype <> 'n'
    UNION ALL
    SELECT tablename, 3, indexdef, 0 FROM pg_indexes WHERE schemaname = 'public') x
    WHERE t <> '_sqlx_migrations' ORDER BY t, k, n, line";
const SQLITE_DUMP: &str = "SELECT sql AS line FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' \
    AND tbl_name <> '_sqlx_migrations' ORDER BY tbl_name, type DESC, name";

/// Runs a statement beside the store, as a careless operator would.
pub(crate) async fn execute(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    if url.starts_with("postgres") {
        let mut connection = sqlx::PgConnection::connect(url).await?;
        connection.execute(sql).await?;
        connection.close().await
    } else {
        let mut connection = sqlx::SqliteConnection::connect(url).await?;
        connection.execute(sql).await?;
        connection.close().await
    }
}

async fn dump(url: &str) -> String {
    let lines: Vec<String> = if url.starts_with("postgres") {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        let rows = connection.fetch_all(POSTGRES_DUMP).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>("line")).collect()
    } else {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        let rows = connection.fetch_all(SQLITE_DUMP).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>("line") + ";").collect()
    };
    lines.join("\n") + "\n"
}

async fn the_migrated_schema_equals_its_golden_dump(world: &World) {
    let dialect = if world.store.is_shared() { "postgres" } else { "sqlite" };
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("migrations/schema.{dialect}.txt"));
    let found = dump(&world.url).await;
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(found == expected, "the schema is not that of {}: BLESS=1 writes it anew\n{found}", golden.display());
}

async fn a_schema_that_is_newer_is_refused(world: &World) {
    world.reopen().await.unwrap().close().await;
    let newer = SCHEMA_VERSION + 1;
    let blob = if world.store.is_shared() { "'\\x00'" } else { "x'00'" };
    let sql = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES ({newer}, 'from the future', true, {blob}, 0)"
    );
    execute(&world.url, &sql).await.unwrap();
    let refused = world.reopen().await.unwrap_err();
    assert_eq!(refused, StoreError::SchemaTooNew { found: newer, known: SCHEMA_VERSION });
}
