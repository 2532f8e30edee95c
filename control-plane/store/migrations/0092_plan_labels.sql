-- Labels that a node must have to take the plan: JSON, a list of texts.
ALTER TABLE plan ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
