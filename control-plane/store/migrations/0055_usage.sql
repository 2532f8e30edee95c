CREATE TABLE usage (
    instance_id BLOB NOT NULL REFERENCES instance (id),
    -- Which count of which node: a node whose journal was lost begins another one.
    meter_id BLOB NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    node_id BLOB NOT NULL REFERENCES node (id),
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL,
    sent_bytes INTEGER NOT NULL,
    running_ms INTEGER NOT NULL,
    PRIMARY KEY (instance_id, meter_id, sequence)
) STRICT;
