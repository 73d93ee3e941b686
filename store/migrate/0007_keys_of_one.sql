-- A key is of one system: whoever enrols with another's is refused, and found by this.
CREATE INDEX systems_by_disco ON systems (org_id, disco);
