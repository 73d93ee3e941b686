package store

import (
	"context"
	"fmt"

	"enclave/store/audit"
	"enclave/store/backup"
	"enclave/store/migrate"
)

// trail is the audit trail of a database that no store has open. One of an older schema
// is followed once it has been brought up; until then its head alone is compared.
type trail struct {
	s    *Store
	have backup.Head
}

func (t *trail) readable() bool { return t.have.Schema == migrate.Latest() }

// follow follows the chain and the tree, and returns how many records there are.
func (t *trail) follow(ctx context.Context) (int64, error) {
	if !t.readable() {
		return t.have.Audit.Records, nil
	}
	h, err := t.s.VerifyAudit(ctx, nil)
	return h.Checkpoint.Size, err
}

// holds reports whether the trail holds what was seen before: ErrRollback when it ends
// earlier, ErrForked when it says something else there.
func (t *trail) holds(ctx context.Context, seen backup.AuditHead) error {
	r, org := t.s.read, t.have.Org
	var root audit.Checkpoint
	if seen.Checkpoint != "" && t.readable() {
		now, err := t.s.headAt(ctx, r, org, t.have.Audit.Records)
		if err != nil {
			return err
		}
		if root, err = audit.OpenCheckpoint(seen.Checkpoint, now.Key); err != nil {
			return fmt.Errorf("%w: the checkpoint: %w", ErrForked, err)
		}
		seen.Records = root.Size
	}
	if seen.Records > t.have.Audit.Records {
		return fmt.Errorf("%w: it ends at record %d, record %d was seen", ErrRollback, t.have.Audit.Records, seen.Records)
	}
	if root.Size > 0 {
		then, err := t.s.headAt(ctx, r, org, root.Size)
		if err != nil {
			return err
		}
		if then.Checkpoint.Root != root.Root {
			return fmt.Errorf("%w: its first %d records are others", ErrForked, root.Size)
		}
	}
	last, err := recordAt(ctx, r, org, t.have.Schema, seen.Records)
	if err == nil && seen.Last != "" && last != "" && last != seen.Last {
		err = fmt.Errorf("%w: record %d is another", ErrForked, seen.Records)
	}
	return err
}
