-- When two agents were found to speak for the node; NULL while one does.
ALTER TABLE node ADD COLUMN doubled_at INTEGER;
