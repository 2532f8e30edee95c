CREATE TABLE ticket (
    id BLOB NOT NULL PRIMARY KEY,
    secret_sha256 BLOB NOT NULL UNIQUE,
    region TEXT NOT NULL,
    vcpu_percent INTEGER NOT NULL,
    memory_percent INTEGER NOT NULL,
    bound_node_id BLOB REFERENCES node (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    used_by BLOB REFERENCES node (id),
    certificate_serial BLOB REFERENCES certificate (serial),
    CHECK ((used_at IS NULL) = (used_by IS NULL)),
    CHECK ((used_at IS NULL) = (certificate_serial IS NULL))
) STRICT;
