ALTER TABLE instance ADD COLUMN delete_after INTEGER;
CREATE INDEX instance_to_be_deleted ON instance (delete_after) WHERE delete_after IS NOT NULL;
