-- GPUs of the plan, and of which model; NULL where any one model will do.
ALTER TABLE plan ADD COLUMN gpu_count INTEGER NOT NULL DEFAULT 0 CHECK (gpu_count >= 0);
ALTER TABLE plan ADD COLUMN gpu_model TEXT;
