-- Each reserve and each release on a node takes the next number of its node, under the lock of the node's row: read in this
-- order, the reservations are the history of the node, and a number that is missing is an entry that was lost. Rows that
-- were written before have none.
ALTER TABLE node ADD COLUMN reservation_sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE reservation ADD COLUMN reserved_sequence INTEGER;
ALTER TABLE reservation ADD COLUMN released_sequence INTEGER;
