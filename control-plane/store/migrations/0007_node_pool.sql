CREATE TABLE node_pool (
    node_id BLOB NOT NULL REFERENCES node (id),
    storage_class TEXT NOT NULL,
    capacity_bytes INTEGER NOT NULL,
    used_bytes INTEGER NOT NULL DEFAULT 0,
    bound_bytes INTEGER NOT NULL,
    free_bytes INTEGER NOT NULL,
    PRIMARY KEY (node_id, storage_class),
    CONSTRAINT node_pool_not_oversold CHECK (used_bytes >= 0 AND used_bytes <= bound_bytes)
) STRICT;
