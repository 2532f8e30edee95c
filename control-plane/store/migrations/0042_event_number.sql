-- The place of an event in the order in which events are read; given after its transaction has committed.
ALTER TABLE event ADD COLUMN number INTEGER;
CREATE UNIQUE INDEX event_by_number ON event (number) WHERE number IS NOT NULL;
CREATE INDEX event_unnumbered ON event (created_at, id) WHERE number IS NULL;
CREATE INDEX event_by_order ON event (order_id) WHERE order_id IS NOT NULL;
