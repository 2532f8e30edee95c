-- Since when its node, which was fenced, may not have what is wanted of it.
ALTER TABLE instance ADD COLUMN misaligned_at INTEGER;
CREATE INDEX instance_misaligned ON instance (id) WHERE misaligned_at IS NOT NULL;
