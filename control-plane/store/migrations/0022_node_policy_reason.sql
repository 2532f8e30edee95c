-- Why a node takes no new instances, when the control plane itself cordoned it; empty when an operator decided.
ALTER TABLE node ADD COLUMN policy_reason TEXT;
