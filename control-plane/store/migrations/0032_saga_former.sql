-- What was wanted of the instance before the saga, so that it can be taken back (JSON).
ALTER TABLE saga ADD COLUMN former TEXT;
