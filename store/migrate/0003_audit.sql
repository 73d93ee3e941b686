-- The audit trail takes the place of the activity log: the same records under the same
-- hashes, and after them those of the second format (docs/format/audit.md).
CREATE TABLE audit_records (
  org_id    TEXT NOT NULL REFERENCES organisation,
  seq       INTEGER NOT NULL,
  format    INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  action    TEXT NOT NULL,
  object    TEXT NOT NULL,
  revision  INTEGER NOT NULL,
  outcome   TEXT NOT NULL,
  request   TEXT NOT NULL,
  subject   TEXT NOT NULL,
  key       INTEGER NOT NULL,
  detail    BLOB NOT NULL, -- sealed; in clear in the first format
  prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
  hash      BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (org_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO audit_records
  SELECT org_id, seq, 1, at, actor, action, object, revision, '', '', '', 0, CAST(detail AS BLOB), prev_hash, hash
  FROM activity ORDER BY org_id, seq;
DROP TABLE activity;

-- Hashes of the Merkle tree, in the order in which tlog stores them. Those of archived
-- records stay.
CREATE TABLE audit_hashes (
  org_id TEXT NOT NULL REFERENCES organisation,
  place  INTEGER NOT NULL,
  hash   BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (org_id, place)
) STRICT, WITHOUT ROWID;

-- What signs the checkpoints; the secret is sealed.
CREATE TABLE audit_log (
  org_id TEXT PRIMARY KEY REFERENCES organisation,
  secret BLOB NOT NULL,
  public TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys under which details are sealed, themselves sealed. One that is erased is
-- NULL for good; whoever comes again gets another.
CREATE TABLE audit_subjects (
  org_id     TEXT NOT NULL REFERENCES organisation,
  key        INTEGER NOT NULL,
  subject    TEXT NOT NULL,
  secret     BLOB,
  created_at INTEGER NOT NULL,
  erased_at  INTEGER,
  PRIMARY KEY (org_id, key),
  CHECK ((secret IS NULL) = (erased_at IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX audit_subject_now ON audit_subjects (org_id, subject) WHERE erased_at IS NULL;

-- Runs of records that were written to a file and taken out of the table.
CREATE TABLE audit_segments (
  org_id     TEXT NOT NULL REFERENCES organisation,
  first      INTEGER NOT NULL,
  last       INTEGER NOT NULL,
  first_at   INTEGER NOT NULL,
  last_at    INTEGER NOT NULL,
  last_hash  BLOB NOT NULL CHECK (length(last_hash) = 32),
  checkpoint TEXT NOT NULL, -- over the records up to last
  file_hash  BLOB NOT NULL CHECK (length(file_hash) = 32),
  at         INTEGER NOT NULL,
  PRIMARY KEY (org_id, first)
) STRICT, WITHOUT ROWID;

-- Triggers stop mistakes; the chain, the tree and those who remember a checkpoint show
-- what gets round them.
CREATE TRIGGER audit_records_no_update BEFORE UPDATE ON audit_records
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;

CREATE TRIGGER audit_records_no_delete BEFORE DELETE ON audit_records
WHEN NOT EXISTS (SELECT 1 FROM audit_segments WHERE org_id = OLD.org_id AND OLD.seq BETWEEN first AND last)
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;

CREATE TRIGGER audit_records_in_order BEFORE INSERT ON audit_records
WHEN NEW.seq <> 1 + coalesce((SELECT max(seq) FROM audit_records WHERE org_id = NEW.org_id), 0)
  OR NEW.prev_hash <> coalesce((SELECT hash FROM audit_records WHERE org_id = NEW.org_id AND seq = NEW.seq - 1), zeroblob(32))
BEGIN SELECT RAISE(ABORT, 'audit record out of order'); END;

CREATE TRIGGER audit_hashes_no_update BEFORE UPDATE ON audit_hashes
BEGIN SELECT RAISE(ABORT, 'the audit tree is append-only'); END;

CREATE TRIGGER audit_hashes_no_delete BEFORE DELETE ON audit_hashes
BEGIN SELECT RAISE(ABORT, 'the audit tree is append-only'); END;

CREATE TRIGGER audit_hashes_in_order BEFORE INSERT ON audit_hashes
WHEN NEW.place <> 1 + coalesce((SELECT max(place) FROM audit_hashes WHERE org_id = NEW.org_id), -1)
BEGIN SELECT RAISE(ABORT, 'audit hash out of order'); END;

CREATE TRIGGER audit_segments_no_update BEFORE UPDATE ON audit_segments
BEGIN SELECT RAISE(ABORT, 'segments are final'); END;

CREATE TRIGGER audit_segments_no_delete BEFORE DELETE ON audit_segments
BEGIN SELECT RAISE(ABORT, 'segments are final'); END;

-- The last record always stays: the next one follows it.
CREATE TRIGGER audit_segments_in_order BEFORE INSERT ON audit_segments
WHEN NEW.first <> 1 + coalesce((SELECT max(last) FROM audit_segments WHERE org_id = NEW.org_id), 0)
  OR NEW.last < NEW.first
  OR NEW.last >= coalesce((SELECT max(seq) FROM audit_records WHERE org_id = NEW.org_id), 0)
BEGIN SELECT RAISE(ABORT, 'segment out of order'); END;

CREATE TRIGGER audit_subjects_no_delete BEFORE DELETE ON audit_subjects
BEGIN SELECT RAISE(ABORT, 'subjects keep their number'); END;

CREATE TRIGGER audit_subjects_erased BEFORE UPDATE ON audit_subjects
WHEN OLD.secret IS NULL AND NEW.secret IS NOT NULL
  OR NEW.key <> OLD.key OR NEW.subject <> OLD.subject OR NEW.org_id <> OLD.org_id
BEGIN SELECT RAISE(ABORT, 'what is erased stays so'); END;
