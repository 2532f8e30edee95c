CREATE TABLE secret (
    instance_id BLOB NOT NULL PRIMARY KEY REFERENCES instance (id),
    sealed BLOB,
    sealed_at INTEGER NOT NULL,
    revealed_at INTEGER,
    link_sha256 BLOB UNIQUE,
    link_expires_at INTEGER,
    CHECK ((sealed IS NULL) = (revealed_at IS NOT NULL)),
    CHECK ((link_sha256 IS NULL) = (link_expires_at IS NULL))
) STRICT;
