-- Labels that its node must have, as its plan asked for when it was ordered: JSON, a list of texts.
ALTER TABLE instance ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
