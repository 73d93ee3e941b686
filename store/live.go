package store

import (
	"context"
	"fmt"
	"time"

	"enclave/wire"
)

// The changes in this file are of where systems are, not of what they may: they
// make no revision and no record.

// SetConnected notes that a system has connected from an address.
func (s *Store) SetConnected(ctx context.Context, id wire.SystemID, at time.Time, from string) error {
	return s.touch(ctx, "connected", id, `UPDATE system_live SET online = 1, connected_at = ?1, last_seen = ?1, seen_from = ?2
		WHERE org_id = ?3 AND system_id = ?4`, at.UnixNano(), from)
}

// SetDisconnected notes that a system's connection has ended.
func (s *Store) SetDisconnected(ctx context.Context, id wire.SystemID, at time.Time) error {
	return s.touch(ctx, "disconnected", id, `UPDATE system_live SET online = 0, disconnected_at = ?1, last_seen = ?1
		WHERE org_id = ?3 AND system_id = ?4`, at.UnixNano(), nil)
}

// SetSeen notes that a system was heard and which revision it has applied.
func (s *Store) SetSeen(ctx context.Context, id wire.SystemID, at time.Time, applied wire.Revision) error {
	return s.touch(ctx, "seen", id, `UPDATE system_live SET last_seen = ?1, applied = max(applied, ?2)
		WHERE org_id = ?3 AND system_id = ?4`, at.UnixNano(), applied)
}

// SetReach replaces where a system can be found.
func (s *Store) SetReach(ctx context.Context, id wire.SystemID, at time.Time, reach wire.Reach) error {
	if len(reach.Candidates) > wire.MaxCandidates {
		return fmt.Errorf("reach of %s: %d candidates, at most %d", id, len(reach.Candidates), wire.MaxCandidates)
	}
	text, err := toJSON(reach)
	if err != nil {
		return err
	}
	return s.touch(ctx, "reach", id, `UPDATE system_live SET last_seen = ?1, reach = ?2
		WHERE org_id = ?3 AND system_id = ?4`, at.UnixNano(), text)
}

// SetHost replaces what a system says about itself.
func (s *Store) SetHost(ctx context.Context, id wire.SystemID, h wire.Host) error {
	return s.touch(ctx, "host", id, `UPDATE systems SET hostname = ?1, platform = ?2, agent_version = ?5
		WHERE org_id = ?3 AND id = ?4`, h.Hostname, h.Platform, h.Version)
}

// UpdateSVID replaces a system's certificate chain, leaf first, after it was issued
// or renewed.
func (s *Store) UpdateSVID(ctx context.Context, id wire.SystemID, svid [][]byte) error {
	return s.touch(ctx, "svid", id, `UPDATE systems SET svid = ?1 WHERE org_id = ?3 AND id = ?4`, chain(svid), nil)
}

// DisconnectAll notes that no system is connected: what a control plane that
// starts knows for sure.
func (s *Store) DisconnectAll(ctx context.Context, at time.Time) error {
	org, err := s.orgID()
	if err != nil {
		return err
	}
	_, err = s.write.ExecContext(ctx, "UPDATE system_live SET online = 0, disconnected_at = ? WHERE org_id = ? AND online", at.UnixNano(), org)
	return translate(err)
}

// touch runs one update; ?3 and ?4 of the query are the organisation and the system.
func (s *Store) touch(ctx context.Context, what string, id wire.SystemID, query string, a, b any, more ...any) error {
	org, err := s.orgID()
	if err != nil {
		return err
	}
	exec := s.write.ExecContext
	if tx := s.trial(ctx); tx != nil {
		exec = tx.ExecContext
	}
	res, err := exec(ctx, query, append([]any{a, b, org, id}, more...)...)
	if err != nil {
		return fmt.Errorf("set %s of %s: %w", what, id, translate(err))
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("set %s: %w", what, notFound("system", id))
	}
	return nil
}
