-- Expiries on the wall clock of a zone, what becomes of an enrolment key at its expiry,
-- and from where it enrols.

-- JSON {time, tz}, or empty where an instant is meant. The instant beside it is what it
-- came to when it was written, or when the program last started (docs/decisions/0029).
ALTER TABLE systems ADD COLUMN expires_local TEXT NOT NULL DEFAULT '';
ALTER TABLE enrolment_keys ADD COLUMN expires_local TEXT NOT NULL DEFAULT '';

ALTER TABLE enrolment_keys ADD COLUMN expiry_action TEXT NOT NULL DEFAULT '';
ALTER TABLE enrolment_keys ADD COLUMN sources TEXT NOT NULL DEFAULT '[]'; -- ranges of addresses; none is everywhere
CREATE INDEX keys_by_expiry ON enrolment_keys (org_id, expires_at) WHERE expires_at IS NOT NULL;
