-- GPUs that are held, and of which model.
ALTER TABLE reservation ADD COLUMN gpu_count INTEGER NOT NULL DEFAULT 0 CHECK (gpu_count >= 0);
ALTER TABLE reservation ADD COLUMN gpu_model TEXT CHECK ((gpu_model IS NULL) = (gpu_count = 0));
