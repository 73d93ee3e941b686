-- The subnets that a system may carry for others: what makes it a gateway.
CREATE TABLE system_routes (
  org_id    TEXT NOT NULL,
  system_id TEXT NOT NULL,
  shown     TEXT NOT NULL, -- the subnet as policies and senders know it
  subnet    TEXT NOT NULL, -- the one behind the gateway, of the same size
  PRIMARY KEY (org_id, system_id, shown),
  FOREIGN KEY (org_id, system_id) REFERENCES systems ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
