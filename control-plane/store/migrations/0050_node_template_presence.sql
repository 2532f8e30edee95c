-- Templates on the node and on their way to it, as it said last.
ALTER TABLE node ADD COLUMN template_presence TEXT NOT NULL DEFAULT '[]';
