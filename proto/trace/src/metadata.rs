//! Across gRPC: the caller's place in its trace travels as `traceparent`, and is read where the call is served.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::TraceParent;

/// Says with each call to which trace it belongs; nothing outside of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct CarryOn;

impl Interceptor for CarryOn {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(parent) = crate::current() {
            write(request.metadata_mut(), parent);
        }
        Ok(request)
    }
}

/// Writes where a call belongs.
pub fn write(metadata: &mut MetadataMap, parent: TraceParent) {
    // Hexadecimal digits and dashes are ASCII.
    if let Ok(value) = MetadataValue::try_from(parent.to_string()) {
        metadata.insert(TraceParent::NAME, value);
    }
}

/// Reads where a call belongs; none when nothing, or nothing usable, was said.
#[must_use]
pub fn read(metadata: &MetadataMap) -> Option<TraceParent> {
    metadata.get(TraceParent::NAME)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let mut metadata = MetadataMap::new();
        assert_eq!(read(&metadata), None);
        write(&mut metadata, parent);
        assert_eq!(read(&metadata), Some(parent));
        metadata.insert(TraceParent::NAME, MetadataValue::from_static("nonsense"));
        assert_eq!(read(&metadata), None);
    }
}
