//! Instants as microseconds since the Unix epoch; 0 stands for none where a field may be empty.

use jiff::Timestamp;
use nemordp_types::Failure;

/// Microseconds since the epoch.
#[must_use]
pub fn encode(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// Microseconds since the epoch, 0 for none.
#[must_use]
pub fn encode_option(at: Option<Timestamp>) -> i64 {
    at.map_or(0, encode)
}

/// Reads an instant; the error names the field.
pub fn decode(microseconds: i64, field: &str) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|_| Failure::field(field, "use microseconds since 1970 within the years -9999 to 9999"))
}

/// Reads an instant that may be absent (0).
pub fn decode_option(microseconds: i64, field: &str) -> Result<Option<Timestamp>, Failure> {
    if microseconds == 0 { Ok(None) } else { decode(microseconds, field).map(Some) }
}
