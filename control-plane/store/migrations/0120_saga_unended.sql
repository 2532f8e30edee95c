-- Whether work on an instance has not ended, or is stuck: asked for every instance that is to be moved or aligned.
CREATE INDEX saga_unended ON saga (instance_id) WHERE status IN ('running', 'unwinding', 'stuck');
