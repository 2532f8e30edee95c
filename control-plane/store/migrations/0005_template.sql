CREATE TABLE template (
    digest BLOB NOT NULL,
    name TEXT NOT NULL,
    manifest TEXT NOT NULL,
    file_name TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    PRIMARY KEY (name, digest)
) STRICT;
CREATE INDEX template_by_digest ON template (digest);
