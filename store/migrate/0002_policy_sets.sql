-- The history of the policy set, and what else decides who reaches whom.

-- Sets can be rebuilt from this revision on; what stood before it was not kept.
ALTER TABLE organisation ADD COLUMN history_from INTEGER NOT NULL DEFAULT 1;
UPDATE organisation SET history_from = revision;

-- One row for each change of each part of the policy set: a policy, a requirement,
-- the trust of a tag, the tests. The document holds from its revision until the next
-- of the same part; NULL is a part that is gone. It is parsed by whoever reads it, so
-- that a document of another version stops nobody.
CREATE TABLE set_versions (
  org_id   TEXT NOT NULL REFERENCES organisation,
  part     TEXT NOT NULL CHECK (part IN ('policy', 'requirement', 'tag', 'tests')),
  id       TEXT NOT NULL,
  revision INTEGER NOT NULL,
  document TEXT,
  PRIMARY KEY (org_id, part, id, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX set_versions_by_revision ON set_versions (org_id, revision);

CREATE TRIGGER set_versions_no_update BEFORE UPDATE ON set_versions
BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

CREATE TRIGGER set_versions_no_delete BEFORE DELETE ON set_versions
BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

-- What stands now, as of the revision at which history begins.
INSERT INTO set_versions
  SELECT p.org_id, 'policy', p.id, o.revision, p.document
  FROM policies p JOIN organisation o ON o.org_id = p.org_id;
INSERT INTO set_versions
  SELECT t.org_id, 'tag', t.tag, o.revision, json_group_array(t.requirement)
  FROM tag_trust t JOIN organisation o ON o.org_id = t.org_id GROUP BY t.org_id, t.tag;

-- Who made each revision: the record of the activity log that belongs to it, so that
-- a list of revisions does not read the whole log.
CREATE TABLE revisions (
  org_id   TEXT NOT NULL REFERENCES organisation,
  revision INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  action   TEXT NOT NULL,
  object   TEXT NOT NULL,
  reason   TEXT NOT NULL,
  PRIMARY KEY (org_id, revision)
) STRICT, WITHOUT ROWID;
INSERT INTO revisions
  SELECT a.org_id, a.revision, a.at, a.actor, a.action, a.object, ''
  FROM activity a JOIN (SELECT org_id, min(seq) AS seq FROM activity GROUP BY org_id, revision) f
    ON f.org_id = a.org_id AND f.seq = a.seq;

CREATE TABLE requirements (
  org_id   TEXT NOT NULL REFERENCES organisation,
  id       TEXT NOT NULL,
  document TEXT NOT NULL,
  version  INTEGER NOT NULL,
  PRIMARY KEY (org_id, id)
) STRICT, WITHOUT ROWID;

-- What was in the sign-in that met a requirement, to be judged again when the
-- requirement changes.
ALTER TABLE trust_marks ADD COLUMN claims TEXT NOT NULL DEFAULT '{}';

-- The assertions kept with the policies: one document an organisation.
CREATE TABLE policy_tests (
  org_id   TEXT PRIMARY KEY REFERENCES organisation,
  document TEXT NOT NULL,
  version  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The change that reverts to base at its deadline unless it is confirmed.
CREATE TABLE pending (
  org_id   TEXT PRIMARY KEY REFERENCES organisation,
  revision INTEGER NOT NULL,
  base     INTEGER NOT NULL,
  deadline INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Unmanaged systems connect when each has added the other.
CREATE TABLE system_adds (
  org_id    TEXT NOT NULL,
  system_id TEXT NOT NULL,
  added     TEXT NOT NULL,
  PRIMARY KEY (org_id, system_id, added),
  FOREIGN KEY (org_id, system_id) REFERENCES systems ON DELETE CASCADE,
  FOREIGN KEY (org_id, added) REFERENCES systems ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
