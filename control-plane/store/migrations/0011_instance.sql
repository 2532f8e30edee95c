CREATE TABLE instance (
    id BLOB NOT NULL PRIMARY KEY,
    order_id BLOB NOT NULL UNIQUE REFERENCES customer_order (id),
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    node_id BLOB NOT NULL REFERENCES node (id),
    spec TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation > 0),
    fence INTEGER NOT NULL CHECK (fence >= 0),
    lifecycle TEXT NOT NULL CHECK (lifecycle IN ('provisioning', 'active', 'deleting', 'deleted', 'failed')),
    observed TEXT,
    observed_at INTEGER,
    rdp_certificate_sha256 BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX instance_by_tenant ON instance (tenant_id, id);
CREATE INDEX instance_by_node ON instance (node_id, id);
