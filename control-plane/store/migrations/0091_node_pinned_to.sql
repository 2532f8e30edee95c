-- The only tenant whose instances the node takes; NULL when it takes everybody's.
ALTER TABLE node ADD COLUMN pinned_to BLOB REFERENCES tenant (id);
