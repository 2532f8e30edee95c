-- Whether the tenant's instances may only lie on nodes that are kept for it.
ALTER TABLE tenant ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));
