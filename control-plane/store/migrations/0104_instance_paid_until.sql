-- Until when it is paid for; NULL where nobody said. Placement asks for the last of a node.
ALTER TABLE instance ADD COLUMN paid_until INTEGER;
CREATE INDEX instance_paid_until ON instance (node_id, paid_until)
    WHERE paid_until IS NOT NULL AND lifecycle IN ('provisioning', 'active', 'deleting');
