-- What each reconciler found and did last, on whichever replica.
CREATE TABLE reconciler (
    name TEXT NOT NULL PRIMARY KEY,
    runs INTEGER NOT NULL,
    last_run_at INTEGER NOT NULL,
    last_run_ms INTEGER NOT NULL,
    outcome TEXT,
    failure TEXT,
    details TEXT
) STRICT;
-- What is done by one replica at a time, and by which one until when.
CREATE TABLE role_lease (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    held_until INTEGER NOT NULL
) STRICT;
-- Reconcilers that an operator wants to run now.
CREATE TABLE reconciler_wish (
    name TEXT NOT NULL PRIMARY KEY,
    wanted_at INTEGER NOT NULL
) STRICT;
