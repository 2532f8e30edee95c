CREATE TABLE reservation (
    id BLOB NOT NULL PRIMARY KEY,
    instance_id BLOB NOT NULL REFERENCES instance (id),
    node_id BLOB NOT NULL REFERENCES node (id),
    vcpu INTEGER NOT NULL CHECK (vcpu > 0),
    memory_mib INTEGER NOT NULL CHECK (memory_mib > 0),
    storage_class TEXT NOT NULL,
    disk_bytes INTEGER NOT NULL CHECK (disk_bytes > 0),
    created_at INTEGER NOT NULL,
    released_at INTEGER
) STRICT;
CREATE UNIQUE INDEX reservation_held_once ON reservation (instance_id, node_id) WHERE released_at IS NULL;
CREATE INDEX reservation_held_by_node ON reservation (node_id) WHERE released_at IS NULL;
