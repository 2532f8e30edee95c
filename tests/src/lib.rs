//! What tests, benchmarks and `make try` stand on.

#[cfg(feature = "product")]
pub mod bench_order;
pub mod lab;
pub mod trial;
