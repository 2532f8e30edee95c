-- When it was found to be used by two agents.
ALTER TABLE certificate ADD COLUMN flagged_at INTEGER;
