//! Everything that the store knows, read once with SQL of our own.

use std::collections::BTreeMap;

use crate::cluster::{Database, Result, Row};

/// The store's tables, by id without dashes.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) orders: BTreeMap<String, Row>,
    pub(super) instances: BTreeMap<String, Row>,
    pub(super) sagas: Vec<Row>,
    pub(super) nodes: BTreeMap<String, Row>,
    pub(super) pools: Vec<Row>,
    /// Reservations that are held.
    pub(super) reservations: Vec<Row>,
    /// Ports and addresses that are held.
    pub(super) claims: Vec<Row>,
    /// Instances that have credentials.
    pub(super) secrets: Vec<String>,
    /// Kind, order, instance, how many.
    pub(super) events: Vec<Row>,
}

const ORDERS: &str = "SELECT #id# AS id, state, COALESCE(failure, '') AS failure, #instance_id# AS instance_id, \
    #saga_id# AS saga_id, COALESCE(external_reference, '') AS external_reference FROM customer_order";
const INSTANCES: &str = "SELECT #id# AS id, #order_id# AS order_id, #node_id# AS node_id, spec, lifecycle, \
    CAST(generation AS TEXT) AS generation, #rdp_certificate_sha256# AS rdp_certificate_sha256 FROM instance";
const SAGAS: &str = "SELECT #id# AS id, kind, status, COALESCE(lease_owner, '') AS lease_owner, \
    COALESCE(failure, '') AS failure, #instance_id# AS instance_id FROM saga";
const NODES: &str = "SELECT #id# AS id, name, CAST(vcpu_used AS TEXT) AS vcpu, CAST(memory_used_mib AS TEXT) AS memory, \
    CAST(vcpu_capacity AS TEXT) AS vcpu_capacity, CAST(memory_capacity_mib AS TEXT) AS memory_capacity FROM node";
const POOLS: &str = "SELECT #node_id# AS node_id, storage_class, CAST(used_bytes AS TEXT) AS used, \
    CAST(capacity_bytes AS TEXT) AS capacity FROM node_pool";
const RESERVATIONS: &str = "SELECT #instance_id# AS instance_id, #node_id# AS node_id, CAST(vcpu AS TEXT) AS vcpu, \
    CAST(memory_mib AS TEXT) AS memory, storage_class, CAST(disk_bytes AS TEXT) AS disk FROM reservation \
    WHERE released_at IS NULL";
const CLAIMS: &str = "SELECT kind, scope, CAST(number AS TEXT) AS number, #node_id# AS node_id, \
    #instance_id# AS instance_id FROM pool_claim WHERE instance_id IS NOT NULL";
const EVENTS: &str = "SELECT kind, #order_id# AS order_id, #instance_id# AS instance_id, CAST(COUNT(*) AS TEXT) AS n \
    FROM event GROUP BY kind, order_id, instance_id";

fn by_id(rows: Vec<Row>) -> BTreeMap<String, Row> {
    rows.into_iter().map(|row| (row.text("id").to_owned(), row)).collect()
}

impl Book {
    pub(super) async fn read(database: &Database) -> Result<Self> {
        let secrets = database.rows("SELECT #instance_id# AS id FROM secret").await?;
        Ok(Self {
            orders: by_id(database.rows(ORDERS).await?),
            instances: by_id(database.rows(INSTANCES).await?),
            sagas: database.rows(SAGAS).await?,
            nodes: by_id(database.rows(NODES).await?),
            pools: database.rows(POOLS).await?,
            reservations: database.rows(RESERVATIONS).await?,
            claims: database.rows(CLAIMS).await?,
            secrets: secrets.iter().map(|row| row.text("id").to_owned()).collect(),
            events: database.rows(EVENTS).await?,
        })
    }

    /// Whether a settled instance exists for its customer.
    #[expect(clippy::unused_self, reason = "reads as a question to the book")]
    pub(super) fn is_live(&self, instance: &Row) -> bool {
        !["deleted", "failed"].contains(&instance.text("lifecycle"))
    }
}
