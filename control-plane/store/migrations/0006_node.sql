CREATE TABLE node (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    region TEXT NOT NULL,
    agent_address TEXT NOT NULL,
    policy TEXT NOT NULL CHECK (policy IN ('active', 'cordoned', 'draining', 'decommissioned')),
    availability TEXT NOT NULL CHECK (availability IN ('unknown', 'available', 'suspect', 'lost', 'fenced')),
    availability_changed_at INTEGER NOT NULL,
    vcpu_percent INTEGER NOT NULL,
    memory_percent INTEGER NOT NULL,
    -- What may be sold; what is reserved; the larger of both, so that a node that shrinks below what is reserved can be
    -- written down while no reservation can ever pass what may be sold.
    vcpu_capacity INTEGER NOT NULL,
    vcpu_used INTEGER NOT NULL DEFAULT 0,
    vcpu_bound INTEGER NOT NULL,
    memory_capacity_mib INTEGER NOT NULL,
    memory_used_mib INTEGER NOT NULL DEFAULT 0,
    memory_bound_mib INTEGER NOT NULL,
    inventory TEXT NOT NULL,
    load TEXT,
    last_heartbeat_at INTEGER,
    certificate_serial BLOB NOT NULL,
    enrolled_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT node_vcpu_not_oversold CHECK (vcpu_used >= 0 AND vcpu_used <= vcpu_bound),
    CONSTRAINT node_memory_not_oversold CHECK (memory_used_mib >= 0 AND memory_used_mib <= memory_bound_mib)
) STRICT;
CREATE INDEX node_by_region ON node (region);
