CREATE TABLE plan (
    name TEXT NOT NULL PRIMARY KEY,
    vcpu INTEGER NOT NULL CHECK (vcpu > 0),
    memory_mib INTEGER NOT NULL CHECK (memory_mib > 0),
    disk_gib INTEGER NOT NULL CHECK (disk_gib > 0),
    storage_class TEXT NOT NULL,
    on_sale INTEGER NOT NULL CHECK (on_sale IN (0, 1)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
