-- Suspensions at a time: told to the node, which carries them out whoever can be reached then.
CREATE TABLE suspension (
    instance_id BLOB NOT NULL PRIMARY KEY REFERENCES instance (id),
    -- The node knows it by this operation.
    operation_id BLOB NOT NULL,
    suspend_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('wanted', 'placed', 'cancelling')),
    -- The node that was told; the instance may have been moved since.
    node_id BLOB REFERENCES node (id),
    created_at INTEGER NOT NULL
) STRICT;
