-- Why the order went where it went: digest of the snapshot, the best nodes with their terms, the count of each refusal (JSON).
ALTER TABLE customer_order ADD COLUMN placement TEXT;
