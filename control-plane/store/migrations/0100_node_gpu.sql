-- GPUs of a node, by model: what may be given away, what is reserved, the larger of both; like its pools.
CREATE TABLE node_gpu (
    node_id BLOB NOT NULL REFERENCES node (id),
    model TEXT NOT NULL,
    capacity INTEGER NOT NULL CHECK (capacity >= 0),
    used INTEGER NOT NULL DEFAULT 0,
    bound INTEGER NOT NULL,
    PRIMARY KEY (node_id, model),
    CONSTRAINT node_gpu_not_oversold CHECK (used >= 0 AND used <= bound)
) STRICT;
