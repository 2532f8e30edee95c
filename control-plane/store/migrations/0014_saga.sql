CREATE TABLE saga (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'unwinding', 'done', 'unwound', 'cancelled', 'stuck')),
    step INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    lease_owner TEXT,
    lease_until INTEGER,
    next_run_at INTEGER NOT NULL,
    cancel_requested_at INTEGER,
    failure TEXT,
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    order_id BLOB REFERENCES customer_order (id),
    instance_id BLOB REFERENCES instance (id),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER,
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
) STRICT;
CREATE INDEX saga_due ON saga (next_run_at) WHERE status IN ('running', 'unwinding');
CREATE INDEX saga_by_tenant ON saga (tenant_id, id);
CREATE INDEX saga_by_order ON saga (order_id);
CREATE UNIQUE INDEX saga_open_per_instance ON saga (instance_id) WHERE status IN ('running', 'unwinding');
