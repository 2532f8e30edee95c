CREATE TABLE customer_order (
    id BLOB NOT NULL PRIMARY KEY,
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    external_reference TEXT,
    plan TEXT NOT NULL REFERENCES plan (name),
    template TEXT NOT NULL,
    region TEXT NOT NULL,
    host_name TEXT NOT NULL,
    time_zone TEXT,
    keyboard TEXT,
    state TEXT NOT NULL
        CHECK (state IN ('accepted', 'provisioning', 'active', 'cancelling', 'refused', 'failed', 'cancelled')),
    failure TEXT,
    instance_id BLOB NOT NULL UNIQUE,
    saga_id BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX customer_order_by_tenant ON customer_order (tenant_id, id);
CREATE INDEX customer_order_by_reference ON customer_order (tenant_id, external_reference);
