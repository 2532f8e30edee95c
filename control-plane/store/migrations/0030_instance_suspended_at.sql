ALTER TABLE instance ADD COLUMN suspended_at INTEGER;
