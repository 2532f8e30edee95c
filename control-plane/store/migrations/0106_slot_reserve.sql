-- How many orders of a scarce plan must stay possible in a region before cheaper ones may take the room.
CREATE TABLE slot_reserve (
    region TEXT NOT NULL,
    plan TEXT NOT NULL REFERENCES plan (name),
    slots INTEGER NOT NULL CHECK (slots > 0),
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (region, plan)
) STRICT;
