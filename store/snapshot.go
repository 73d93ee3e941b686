package store

import (
	"context"

	"enclave/wire"
)

// Snapshot is everything that decides who reaches whom, read at one instant.
type Snapshot struct {
	Revision wire.Revision
	Systems  []System // by ID
	Policies []Policy // oldest first
	TagTrust map[wire.Tag][]string
	Relays   []Relay // by ID
}

// Snapshot reads the whole policy state of one revision, so that what is compiled
// from it never mixes two.
func (s *Store) Snapshot(ctx context.Context) (snap Snapshot, err error) {
	err = s.view(ctx, "read state", func(r reader, org wire.OrgID) (err error) {
		if snap.Revision, err = revision(ctx, r, org); err != nil {
			return err
		}
		if snap.Systems, err = systems(ctx, r, org); err != nil {
			return err
		}
		if snap.Policies, err = policies(ctx, r, org); err != nil {
			return err
		}
		if snap.TagTrust, err = tagTrust(ctx, r, org); err != nil {
			return err
		}
		snap.Relays, err = relays(ctx, r, org)
		return err
	})
	return snap, err
}
