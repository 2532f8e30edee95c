-- What of a node is not sold to new instances, so that maintenance has room; of the disk: of each pool.
ALTER TABLE node ADD COLUMN held_vcpu INTEGER NOT NULL DEFAULT 0 CHECK (held_vcpu >= 0);
ALTER TABLE node ADD COLUMN held_memory_mib INTEGER NOT NULL DEFAULT 0 CHECK (held_memory_mib >= 0);
ALTER TABLE node ADD COLUMN held_disk_bytes INTEGER NOT NULL DEFAULT 0 CHECK (held_disk_bytes >= 0);
