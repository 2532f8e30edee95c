CREATE TABLE certificate (
    serial BLOB NOT NULL PRIMARY KEY,
    node_id BLOB REFERENCES node (id),
    public_key_sha256 BLOB NOT NULL,
    der BLOB NOT NULL,
    issued_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER,
    revocation_number INTEGER
) STRICT;
CREATE INDEX certificate_by_node ON certificate (node_id);
CREATE INDEX certificate_revoked ON certificate (revocation_number) WHERE revoked_at IS NOT NULL;
