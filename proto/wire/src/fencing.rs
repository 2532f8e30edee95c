//! The numbers of a mutation on the wire.

use nemordp_types::{Failure, Fence, Generation, Mutation, Pair};

use crate::{id, v1};

impl From<&Mutation> for v1::Mutation {
    fn from(mutation: &Mutation) -> Self {
        Self {
            operation_id: id::encode(&mutation.operation_id),
            instance_id: id::encode(&mutation.instance_id),
            generation: mutation.pair.generation.0,
            fence: mutation.pair.fence.0,
        }
    }
}

impl TryFrom<v1::Mutation> for Mutation {
    type Error = Failure;

    fn try_from(message: v1::Mutation) -> Result<Self, Failure> {
        if message.generation == 0 {
            return Err(Failure::field("generation", "a generation counts from 1"));
        }
        if message.fence == 0 {
            return Err(Failure::field("fence", "a fence counts from 1"));
        }
        Ok(Self {
            operation_id: id::decode(&message.operation_id, "operation_id")?,
            instance_id: id::decode(&message.instance_id, "instance_id")?,
            pair: Pair { generation: Generation(message.generation), fence: Fence(message.fence) },
        })
    }
}

/// Takes the mutation out of a request; the error names the field.
pub fn required(mutation: Option<v1::Mutation>) -> Result<Mutation, Failure> {
    let message = mutation
        .ok_or_else(|| Failure::field("mutation", "every mutation carries operation, instance, generation, fence"))?;
    Mutation::try_from(message).map_err(|failure| failure.within("mutation"))
}
