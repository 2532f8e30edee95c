-- Ports of its range that something else on the machine uses, as its last heartbeat said: JSON, a list of numbers.
ALTER TABLE node ADD COLUMN taken_ports TEXT NOT NULL DEFAULT '[]';
