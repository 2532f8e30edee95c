//! What tests, benchmarks and `make try` stand on.

pub mod lab;
pub mod trial;
