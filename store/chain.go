package store

import (
	"context"

	"enclave/store/backup"
	"enclave/store/migrate"
	"enclave/store/seal"
)

// followChain follows the chain of the audit trail in a database that no store has open,
// and returns how many records it has. One of an older schema is followed once it has
// been brought up; until then its head alone is compared.
func followChain(ctx context.Context, dir string, read *pool, keys *seal.Keyring, have backup.Head) (int64, error) {
	if have.Schema != migrate.Latest() {
		return have.Audit.Records, nil
	}
	s := &Store{dir: dir, read: read, keys: keys}
	s.org.Store(&have.Org)
	n, _, err := s.CheckActivity(ctx)
	return n, err
}
