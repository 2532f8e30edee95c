-- Ports of a public address (scope: the address) and private addresses of a node (scope: the node's id, number: the
-- address). A row is never deleted: a released one rests until it is the oldest.
CREATE TABLE pool_claim (
    kind TEXT NOT NULL CHECK (kind IN ('port', 'address')),
    scope TEXT NOT NULL,
    number INTEGER NOT NULL,
    node_id BLOB NOT NULL REFERENCES node (id),
    instance_id BLOB REFERENCES instance (id) DEFERRABLE INITIALLY DEFERRED,
    claimed_at INTEGER NOT NULL,
    released_at INTEGER,
    PRIMARY KEY (kind, scope, number),
    CHECK ((instance_id IS NULL) = (released_at IS NOT NULL))
) STRICT;
CREATE INDEX pool_claim_by_instance ON pool_claim (instance_id) WHERE instance_id IS NOT NULL;
CREATE INDEX pool_claim_held_by_node ON pool_claim (node_id, kind) WHERE released_at IS NULL;
CREATE INDEX pool_claim_resting ON pool_claim (kind, scope, released_at) WHERE released_at IS NOT NULL;
