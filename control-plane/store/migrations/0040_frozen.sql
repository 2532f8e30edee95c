-- Instances of which a node may know more than the store: nothing is done to them until that is known or decided.
ALTER TABLE instance ADD COLUMN frozen TEXT CHECK (frozen IN ('unverified', 'store_behind', 'undecided', 'missing'));
ALTER TABLE instance ADD COLUMN frozen_at INTEGER;
CREATE INDEX instance_frozen ON instance (id) WHERE frozen IS NOT NULL;
-- When this store last was put back from a backup.
ALTER TABLE installation ADD COLUMN restored_at INTEGER;
