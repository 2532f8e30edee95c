-- Whether GPUs of another model would do as well as those that its specification names, as its plan said when it was ordered.
ALTER TABLE instance ADD COLUMN any_gpu_model INTEGER NOT NULL DEFAULT 0 CHECK (any_gpu_model IN (0, 1));
