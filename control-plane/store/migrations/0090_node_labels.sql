-- What operators call the node by, and plans ask for: JSON, a list of texts.
ALTER TABLE node ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
