-- Zones and records of DNS. What they mean is wire/names' to say; a document of another
-- version stops nobody.
CREATE TABLE dns_zones (
  org_id   TEXT NOT NULL REFERENCES organisation,
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  version  INTEGER NOT NULL,
  PRIMARY KEY (org_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE dns_records (
  org_id   TEXT NOT NULL REFERENCES organisation,
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  version  INTEGER NOT NULL,
  PRIMARY KEY (org_id, name)
) STRICT, WITHOUT ROWID;
