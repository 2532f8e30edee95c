CREATE TABLE saga_step (
    saga_id BLOB NOT NULL REFERENCES saga (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'running', 'done', 'failed', 'undoing', 'undone', 'skipped')),
    attempts INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER,
    finished_at INTEGER,
    percent INTEGER CHECK (percent BETWEEN 0 AND 100),
    detail TEXT,
    failure TEXT,
    PRIMARY KEY (saga_id, position)
) STRICT;
