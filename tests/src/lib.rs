//! What tests, benchmarks and `make try` stand on.

#[cfg(feature = "product")]
pub mod bench_control;
#[cfg(feature = "product")]
pub mod bench_order;
#[cfg(feature = "product")]
pub mod chaos;
#[cfg(feature = "product")]
pub mod cluster;
pub mod lab;
pub mod trial;
