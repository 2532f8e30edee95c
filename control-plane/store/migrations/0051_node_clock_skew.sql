-- The node's clock minus ours, as its last heartbeat showed it; NULL before it said.
ALTER TABLE node ADD COLUMN clock_skew_us INTEGER;
