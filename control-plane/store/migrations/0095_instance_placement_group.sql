-- Which of its tenant's groups an instance belongs to, and where the others should be. Two that stand apart never lie on one
-- node: whoever places takes the node's row first and looks, and this index holds whoever erred.
ALTER TABLE instance ADD COLUMN placement_group TEXT;
ALTER TABLE instance ADD COLUMN affinity TEXT NOT NULL DEFAULT 'any'
    CHECK (affinity IN ('any', 'prefer_apart', 'apart', 'prefer_together'));
CREATE INDEX instance_by_group ON instance (tenant_id, placement_group, node_id) WHERE placement_group IS NOT NULL;
CREATE UNIQUE INDEX instance_stands_apart ON instance (tenant_id, placement_group, node_id)
    WHERE affinity = 'apart' AND lifecycle IN ('provisioning', 'active', 'deleting');
