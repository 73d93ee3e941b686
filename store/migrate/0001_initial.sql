-- The first schema. Every table is partitioned by org_id. Instants are Unix
-- nanoseconds; NULL is "never" or "unlimited". version is the revision of the
-- last change, for If-Match.

PRAGMA application_id = 0x454e434c; -- ENCL

CREATE TABLE organisation (
  org_id      TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  ca_cert     BLOB NOT NULL,
  ca_key      BLOB NOT NULL,
  ticket_key  BLOB NOT NULL,
  ipv4        TEXT NOT NULL,
  ipv6        TEXT NOT NULL,
  settings    TEXT NOT NULL,
  revision    INTEGER NOT NULL,
  created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE enrolment_keys (
  org_id      TEXT NOT NULL REFERENCES organisation,
  id          TEXT NOT NULL,
  name        TEXT NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('general', 'ephemeral', 'relay')),
  automatic   INTEGER NOT NULL,
  secret_hash BLOB NOT NULL CHECK (length(secret_hash) = 32),
  uses_left   INTEGER CHECK (uses_left >= 0),
  used        INTEGER NOT NULL DEFAULT 0,
  enabled     INTEGER NOT NULL DEFAULT 1,
  retention   INTEGER NOT NULL DEFAULT 0,
  expires_at  INTEGER,
  created_at  INTEGER NOT NULL,
  last_used   INTEGER,
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, secret_hash)
) STRICT;

CREATE TABLE key_tags (
  org_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  tag    TEXT NOT NULL,
  PRIMARY KEY (org_id, key_id, tag),
  FOREIGN KEY (org_id, key_id) REFERENCES enrolment_keys ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE systems (
  org_id        TEXT NOT NULL REFERENCES organisation,
  id            TEXT NOT NULL,
  name          TEXT NOT NULL,
  kind          TEXT NOT NULL CHECK (kind IN ('general', 'ephemeral', 'run')),
  approved      INTEGER NOT NULL,
  enabled       INTEGER NOT NULL DEFAULT 1,
  revoked       INTEGER NOT NULL DEFAULT 0,
  ipv4          TEXT NOT NULL,
  ipv6          TEXT NOT NULL,
  identity      BLOB NOT NULL CHECK (length(identity) = 32),
  wireguard     BLOB NOT NULL CHECK (length(wireguard) = 32),
  disco         BLOB NOT NULL CHECK (length(disco) = 32),
  signature     BLOB NOT NULL,
  svid          BLOB NOT NULL DEFAULT x'',
  hostname      TEXT NOT NULL DEFAULT '',
  platform      TEXT NOT NULL DEFAULT '',
  agent_version TEXT NOT NULL DEFAULT '',
  key_id        TEXT NOT NULL,
  secret_hash   BLOB NOT NULL, -- of the key it enrolled with, which may be deleted since
  retention     INTEGER NOT NULL DEFAULT 0,
  notes         TEXT NOT NULL DEFAULT '',
  enrolled_at   INTEGER NOT NULL,
  expires_at    INTEGER,
  expiry_action TEXT NOT NULL DEFAULT '',
  version       INTEGER NOT NULL,
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, identity),
  UNIQUE (org_id, wireguard),
  UNIQUE (org_id, ipv4),
  UNIQUE (org_id, ipv6)
) STRICT;
CREATE INDEX systems_by_name ON systems (org_id, name);

-- Where a system is: written often, audited never, so kept from the row above.
CREATE TABLE system_live (
  org_id          TEXT NOT NULL,
  system_id       TEXT NOT NULL,
  online          INTEGER NOT NULL DEFAULT 0,
  seen_from       TEXT NOT NULL DEFAULT '',
  connected_at    INTEGER,
  disconnected_at INTEGER,
  last_seen       INTEGER,
  applied         INTEGER NOT NULL DEFAULT 0,
  reach           TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (org_id, system_id),
  FOREIGN KEY (org_id, system_id) REFERENCES systems ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE system_tags (
  org_id    TEXT NOT NULL,
  system_id TEXT NOT NULL,
  tag       TEXT NOT NULL,
  PRIMARY KEY (org_id, system_id, tag),
  FOREIGN KEY (org_id, system_id) REFERENCES systems ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX systems_by_tag ON system_tags (org_id, tag);

CREATE TABLE trust_marks (
  org_id      TEXT NOT NULL,
  system_id   TEXT NOT NULL,
  requirement TEXT NOT NULL,
  until       INTEGER,
  PRIMARY KEY (org_id, system_id, requirement),
  FOREIGN KEY (org_id, system_id) REFERENCES systems ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- System IDs are never given out twice, and a revoked identity stays refused,
-- also when the system's row is gone.
CREATE TABLE retired_systems (
  org_id    TEXT NOT NULL REFERENCES organisation,
  system_id TEXT NOT NULL,
  identity  BLOB NOT NULL,
  revoked   INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (org_id, system_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_by_identity ON retired_systems (org_id, identity);

-- Only explicit tags have a row; the others are what the tag columns mention.
CREATE TABLE tags (
  org_id TEXT NOT NULL REFERENCES organisation,
  name   TEXT NOT NULL,
  notes  TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (org_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE tag_trust (
  org_id      TEXT NOT NULL,
  tag         TEXT NOT NULL,
  requirement TEXT NOT NULL,
  PRIMARY KEY (org_id, tag, requirement),
  FOREIGN KEY (org_id, tag) REFERENCES tags ON DELETE CASCADE ON UPDATE CASCADE
) STRICT, WITHOUT ROWID;

-- The document is the policy; the columns beside it are copies to search by.
CREATE TABLE policies (
  org_id     TEXT NOT NULL REFERENCES organisation,
  id         TEXT NOT NULL,
  name       TEXT NOT NULL,
  kind       TEXT NOT NULL,
  enabled    INTEGER NOT NULL,
  expires_at INTEGER,
  document   TEXT NOT NULL CHECK (json_valid(document)),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  version    INTEGER NOT NULL,
  PRIMARY KEY (org_id, id)
) STRICT;
CREATE INDEX policies_by_name ON policies (org_id, name);

CREATE TABLE policy_tags (
  org_id    TEXT NOT NULL,
  policy_id TEXT NOT NULL,
  tag       TEXT NOT NULL,
  PRIMARY KEY (org_id, policy_id, tag),
  FOREIGN KEY (org_id, policy_id) REFERENCES policies ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX policies_by_tag ON policy_tags (org_id, tag);

CREATE TABLE relays (
  org_id      TEXT NOT NULL REFERENCES organisation,
  id          TEXT NOT NULL,
  name        TEXT NOT NULL,
  identity    BLOB NOT NULL CHECK (length(identity) = 32),
  addr        TEXT NOT NULL,
  stun        TEXT NOT NULL,
  svid        BLOB NOT NULL DEFAULT x'',
  key_id      TEXT NOT NULL,
  secret_hash BLOB NOT NULL,
  enrolled_at INTEGER NOT NULL,
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, identity)
) STRICT;

CREATE TABLE api_tokens (
  org_id      TEXT NOT NULL REFERENCES organisation,
  id          TEXT NOT NULL,
  name        TEXT NOT NULL,
  secret_hash BLOB NOT NULL CHECK (length(secret_hash) = 32),
  scopes      TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  expires_at  INTEGER,
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, secret_hash)
) STRICT;

-- The activity log: one row for each change, each holding the hash of the one
-- before (docs/format/activity.md). The triggers stop mistakes; the chain shows
-- tampering.
CREATE TABLE activity (
  org_id    TEXT NOT NULL REFERENCES organisation,
  seq       INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  action    TEXT NOT NULL,
  object    TEXT NOT NULL,
  revision  INTEGER NOT NULL,
  detail    TEXT NOT NULL,
  prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
  hash      BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (org_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX activity_by_revision ON activity (org_id, revision);

CREATE TRIGGER activity_no_update BEFORE UPDATE ON activity
BEGIN SELECT RAISE(ABORT, 'activity is append-only'); END;

CREATE TRIGGER activity_no_delete BEFORE DELETE ON activity
BEGIN SELECT RAISE(ABORT, 'activity is append-only'); END;

CREATE TRIGGER activity_in_order BEFORE INSERT ON activity
WHEN NEW.seq <> 1 + coalesce((SELECT max(seq) FROM activity WHERE org_id = NEW.org_id), 0)
  OR NEW.prev_hash <> coalesce((SELECT hash FROM activity WHERE org_id = NEW.org_id AND seq = NEW.seq - 1), zeroblob(32))
BEGIN SELECT RAISE(ABORT, 'activity out of order'); END;
