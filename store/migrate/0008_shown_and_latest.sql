-- The secret of a key that each start shows until somebody has enrolled with it, sealed.
ALTER TABLE enrolment_keys ADD COLUMN secret BLOB;

-- The latest time by which the state was changed: a clock that is before it was set back
-- (docs/decisions/0218). What stands last in the trail is where it begins.
ALTER TABLE organisation ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
UPDATE organisation SET latest = coalesce(
  (SELECT at FROM audit_records r WHERE r.org_id = organisation.org_id ORDER BY seq DESC LIMIT 1), 0);

-- Pages of policies, in the order of their making.
CREATE INDEX policies_by_making ON policies (org_id, created_at, id);
