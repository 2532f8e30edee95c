CREATE TABLE event (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    tenant_id BLOB,
    order_id BLOB,
    instance_id BLOB,
    node_id BLOB,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    delivered_at INTEGER
) STRICT;
CREATE INDEX event_undelivered ON event (id) WHERE delivered_at IS NULL;
