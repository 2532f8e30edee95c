-- Whose certificates that are no node's are; what the control plane and monitoring systems hold can be revoked too.
ALTER TABLE certificate ADD COLUMN role TEXT NOT NULL DEFAULT 'node'
    CHECK (role IN ('node', 'control-plane', 'monitoring'));
