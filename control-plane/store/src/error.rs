//! What can go wrong in the store, and the one table that turns it into a [`Failure`].

use nemordp_types::{Failure, Reason};

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such row, or another tenant's.
    #[error("no such {noun}")]
    NotFound {
        /// What was looked for.
        noun: &'static str,
    },
    /// A unique name is taken.
    #[error("{field} is taken")]
    AlreadyExists {
        /// The request field that holds the name.
        field: &'static str,
    },
    /// The model or the state of the thing does not allow it.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The room that the placement saw is gone: take a new snapshot and place again.
    #[error("the room that the placement saw is gone")]
    Raced,
    /// All ports of the node are held.
    #[error("no port is left on the node")]
    PortPoolExhausted,
    /// All private addresses of the node are held.
    #[error("no private address is left on the node")]
    AddressPoolExhausted,
    /// The work changed hands: whoever asked must stop.
    #[error("the lease is gone")]
    StaleFence,
    /// No such ticket.
    #[error("unknown ticket")]
    TicketInvalid,
    /// The ticket is too old.
    #[error("expired ticket")]
    TicketExpired,
    /// The ticket was used with another key.
    #[error("ticket used with another key")]
    TicketReused,
    /// The idempotency key came with another request.
    #[error("idempotency key used for another request")]
    IdempotencyKeyReused,
    /// The credentials were shown already.
    #[error("credentials revealed already")]
    AlreadyRevealed,
    /// The database was written by a newer version.
    #[error("schema {found} is newer than {known}")]
    SchemaTooNew {
        /// What the database has.
        found: i64,
        /// What this binary knows.
        known: i64,
    },
    /// A row holds what this version cannot have written.
    #[error("inconsistent row {row} of {table}.{column}: {detail}")]
    Inconsistency {
        /// Which table.
        table: &'static str,
        /// Which column.
        column: String,
        /// Its id, as far as known.
        row: String,
        /// What is wrong.
        detail: String,
    },
    /// Somebody else holds the lock, or the database asks to run the transaction again.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The database cannot be reached or is restarting.
    #[error("the database is not reachable: {0}")]
    Unreachable(String),
    /// The database accepts no writes.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// The database's disk is full.
    #[error("the disk of the database is full: {0}")]
    DiskFull(String),
    /// A constraint of the schema stopped a write that should never have been tried.
    #[error("constraint: {0}")]
    Constraint(String),
    /// Anything else that the database or its driver says.
    #[error("driver: {0}")]
    Driver(String),
}

/// The store's results.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let context = error.to_string();
        let (reason, message) = match error {
            StoreError::Refused(failure) => return failure,
            StoreError::NotFound { noun } => (Reason::NotFound, format!("no such {noun}: check the id")),
            StoreError::AlreadyExists { field } => {
                return Self::new(Reason::AlreadyExists, format!("this {field} is taken: choose another"))
                    .with_field(field);
            }
            StoreError::Raced => (Reason::CapacityExhausted, "the room was taken meanwhile: try again".to_owned()),
            StoreError::PortPoolExhausted => {
                (Reason::PortPoolExhausted, "no port is left on the node: widen its port range".to_owned())
            }
            StoreError::AddressPoolExhausted => {
                (Reason::AddressPoolExhausted, "no private address is left on the node: widen its subnet".to_owned())
            }
            StoreError::StaleFence => {
                (Reason::StaleGeneration, "another replica took this work over: look at the operation".to_owned())
            }
            StoreError::TicketInvalid => {
                (Reason::TicketInvalid, "no such ticket: create one with `nemordp node ticket`".to_owned())
            }
            StoreError::TicketExpired => (Reason::TicketExpired, "the ticket has expired: create a new one".to_owned()),
            StoreError::TicketReused => (
                Reason::TicketReused,
                "the ticket was used with another key: create a new one, and find out who used it".to_owned(),
            ),
            StoreError::IdempotencyKeyReused => (
                Reason::IdempotencyKeyReused,
                "this Idempotency-Key came with another request before: use a new key".to_owned(),
            ),
            StoreError::AlreadyRevealed => (
                Reason::AlreadyRevealed,
                "the credentials were shown already and nobody has them any more: reset the password".to_owned(),
            ),
            StoreError::Busy(_) | StoreError::Unreachable(_) => {
                (Reason::Unavailable, "the store does not answer at the moment: try again later".to_owned())
            }
            StoreError::ReadOnly(_) => {
                (Reason::Unavailable, "the store takes no writes at the moment: try again later".to_owned())
            }
            StoreError::DiskFull(_) => {
                (Reason::Unavailable, "the store's disk is full, nothing was stored: try again later".to_owned())
            }
            StoreError::SchemaTooNew { found, known } => (
                Reason::Internal,
                format!("the database has schema {found}, this version knows {known}: run a newer version"),
            ),
            StoreError::Inconsistency { .. } | StoreError::Constraint(_) | StoreError::Driver(_) => {
                return Self::internal(context);
            }
        };
        Self::new(reason, message).with_context(context)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        if let sqlx::Error::Database(database) = &error {
            return from_database(database.as_ref(), text);
        }
        let unreachable = matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        );
        if unreachable { Self::Unreachable(text) } else { Self::Driver(text) }
    }
}

/// By SQLSTATE (PostgreSQL, appendix A) or result code (SQLite, extended; the low byte is the primary code).
fn from_database(error: &dyn sqlx::error::DatabaseError, text: String) -> StoreError {
    if error.is_unique_violation() || error.is_check_violation() || error.is_foreign_key_violation() {
        return StoreError::Constraint(format!("{text} ({})", error.constraint().unwrap_or("unnamed")));
    }
    let code = error.code().unwrap_or_default().into_owned();
    match code.as_str() {
        "40001" | "40P01" | "55P03" => return StoreError::Busy(text),
        "25006" => return StoreError::ReadOnly(text),
        "53100" => return StoreError::DiskFull(text),
        "53300" | "57P01" | "57P02" | "57P03" => return StoreError::Unreachable(text),
        _ => {}
    }
    match code.parse::<u32>().map(|c| c & 0xff) {
        // 5 BUSY, 6 LOCKED, 8 READONLY, 10 IOERR, 13 FULL, 14 CANTOPEN. SQLSTATEs have five digits: those that parse are
        // told apart by their length.
        Ok(5 | 6) if code.len() < 5 => StoreError::Busy(text),
        Ok(8) if code.len() < 5 => StoreError::ReadOnly(text),
        Ok(13) if code.len() < 5 => StoreError::DiskFull(text),
        Ok(10 | 14) if code.len() < 5 => StoreError::Unreachable(text),
        Ok(_) | Err(_) => StoreError::Driver(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_inside_stays_inside() {
        let failure = Failure::from(StoreError::Driver("password=hunter2".to_owned()));
        assert_eq!(failure.reason, Reason::Internal);
        assert!(!failure.to_string().contains("hunter2"));
        assert!(failure.context.unwrap().contains("hunter2"));
    }
}
