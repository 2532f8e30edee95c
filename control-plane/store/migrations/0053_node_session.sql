CREATE TABLE node_session (
    node_id BLOB NOT NULL REFERENCES node (id),
    session_id BLOB NOT NULL,
    -- Sessions of a node in the order in which they began.
    ordinal INTEGER NOT NULL,
    beat INTEGER NOT NULL,
    returns INTEGER NOT NULL DEFAULT 0,
    agent_address TEXT NOT NULL,
    last_seen_at INTEGER NOT NULL,
    PRIMARY KEY (node_id, session_id)
) STRICT;
