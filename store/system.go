package store

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"enclave/wire"
)

// The kinds of system. An ephemeral one is removed some time after it disconnects;
// a run is an ephemeral one that a sandbox made.
const (
	General   = "general"
	Ephemeral = "ephemeral"
	Run       = "run"
)

// System is a system with all that is known of it.
type System struct {
	ID           wire.SystemID
	Name         string
	Kind         string // General, Ephemeral or Run
	Tags         []wire.Tag
	Trust        []TrustMark
	Adds         []wire.SystemID // systems that it wants to connect to; counts between two that are untagged and add each other
	Routes       []wire.Route    // subnets that it may carry for others, by how they are shown
	Approved     bool
	Enabled      bool
	Revoked      bool
	IPv4, IPv6   netip.Addr
	Keys         wire.Keys
	SVID         [][]byte // DER, leaf first
	Host         wire.Host
	Key          wire.KeyID    // the enrolment key it used
	Retention    time.Duration // of an ephemeral system, after it disconnects
	Notes        string
	EnrolledAt   time.Time
	ExpiresAt    time.Time       // zero: never
	ExpiresLocal *wire.LocalTime // the wall clock that ExpiresAt was made of; nil when it was an instant
	ExpiryAction wire.ExpiryAction
	Version      wire.Revision // revision of the last change, for If-Match
	Live         Live
}

// Live is where a system is and when it was last heard. It changes without a
// revision and without a record.
type Live struct {
	Online         bool
	SeenFrom       string
	ConnectedAt    time.Time
	DisconnectedAt time.Time
	LastSeen       time.Time
	Applied        wire.Revision
	Reach          wire.Reach
}

// TrustMark says that a system meets a requirement until an instant; the zero
// instant is for ever. Claims are those of the sign-in behind it, kept so that it can
// be judged again when the requirement changes.
type TrustMark struct {
	Requirement string
	Until       time.Time
	Claims      map[string][]string
}

// Counts reports whether policies apply to the system at t.
func (s *System) Counts(t time.Time) bool {
	return s.Approved && s.Enabled && !s.Revoked && (s.ExpiresAt.IsZero() || t.Before(s.ExpiresAt))
}

// State is the system's state as people see it at t. An expired system is shown
// as disabled, whether or not its expiry action has run.
func (s *System) State(t time.Time) wire.SystemState {
	switch {
	case s.Revoked:
		return wire.Revoked
	case !s.Approved:
		return wire.Pending
	case !s.Counts(t):
		return wire.Disabled
	case s.Live.Online:
		return wire.Connected
	}
	return wire.Disconnected
}

const systemColumns = `SELECT s.id, s.name, s.kind, s.approved, s.enabled, s.revoked, s.ipv4, s.ipv6,
	s.identity, s.wireguard, s.disco, s.signature, s.svid, s.hostname, s.platform, s.agent_version,
	s.key_id, s.retention, s.notes, s.enrolled_at, s.expires_at, s.expires_local, s.expiry_action, s.version,
	l.online, l.seen_from, l.connected_at, l.disconnected_at, l.last_seen, l.applied, l.reach
	FROM systems s JOIN system_live l ON l.org_id = s.org_id AND l.system_id = s.id `

func scanSystem(scan func(...any) error) (s System, err error) {
	err = scan(&s.ID, &s.Name, &s.Kind, &s.Approved, &s.Enabled, &s.Revoked, addrCol{&s.IPv4}, addrCol{&s.IPv6},
		keyCol{(*[32]byte)(&s.Keys.Identity)}, keyCol{(*[32]byte)(&s.Keys.WireGuard)}, keyCol{(*[32]byte)(&s.Keys.Disco)},
		&s.Keys.Signature, chainCol{&s.SVID}, &s.Host.Hostname, &s.Host.Platform, &s.Host.Version,
		&s.Key, (*int64)(&s.Retention), &s.Notes, instantCol{&s.EnrolledAt}, instantCol{&s.ExpiresAt}, localCol{&s.ExpiresLocal}, &s.ExpiryAction, &s.Version,
		&s.Live.Online, &s.Live.SeenFrom, instantCol{&s.Live.ConnectedAt}, instantCol{&s.Live.DisconnectedAt},
		instantCol{&s.Live.LastSeen}, &s.Live.Applied, jsonCol{&s.Live.Reach})
	return s, err
}

// Systems returns all systems in the order of their IDs.
func (s *Store) Systems(ctx context.Context) (list []System, err error) {
	err = s.view(ctx, "list systems", func(r reader, org wire.OrgID) (err error) {
		list, err = systems(ctx, r, org)
		return err
	})
	return list, err
}

// SystemsAfter returns at most n systems, those whose IDs follow this one.
func (s *Store) SystemsAfter(ctx context.Context, id wire.SystemID, n int) (list []System, err error) {
	err = s.view(ctx, "list systems", func(r reader, org wire.OrgID) (err error) {
		list, err = readSystems(ctx, r, "WHERE s.org_id = ? AND s.id > ? ORDER BY s.id LIMIT ?", org, id, n)
		if err != nil || len(list) == 0 {
			return err
		}
		return decorate(ctx, r, list, "org_id = ? AND system_id > ? AND system_id <= ?", org, id, list[len(list)-1].ID)
	})
	return list, err
}

// System returns one system.
func (s *Store) System(ctx context.Context, id wire.SystemID) (sys System, err error) {
	err = s.view(ctx, "read system", func(r reader, org wire.OrgID) (err error) {
		sys, err = system(ctx, r, org, id)
		return err
	})
	return sys, err
}

// FindSystem returns the system with this ID or, when there is none, the only one
// with this name. Several are an AmbiguousError.
func (s *Store) FindSystem(ctx context.Context, idOrName string) (sys System, err error) {
	err = s.view(ctx, "find system", func(r reader, org wire.OrgID) error {
		id, err := find(ctx, r, org, "system", "systems", idOrName)
		if err == nil {
			sys, err = system(ctx, r, org, wire.SystemID(id))
		}
		return err
	})
	return sys, err
}

// SystemByIdentity returns the system with this identity key.
func (s *Store) SystemByIdentity(ctx context.Context, key wire.IdentityKey) (sys System, err error) {
	err = s.view(ctx, "read system", func(r reader, org wire.OrgID) error {
		var id wire.SystemID
		err := r.QueryRowContext(ctx, "SELECT id FROM systems WHERE org_id = ? AND identity = ?", org, key[:]).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("identity", key.String())
		}
		if err == nil {
			sys, err = system(ctx, r, org, id)
		}
		return err
	})
	return sys, err
}

func system(ctx context.Context, r reader, org wire.OrgID, id wire.SystemID) (System, error) {
	s, err := scanSystem(r.QueryRowContext(ctx, systemColumns+"WHERE s.org_id = ? AND s.id = ?", org, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return System{}, notFound("system", id)
	}
	if err != nil {
		return System{}, err
	}
	list := []System{s}
	err = decorate(ctx, r, list, "org_id = ? AND system_id = ?", org, id)
	return list[0], err
}

func systems(ctx context.Context, r reader, org wire.OrgID) ([]System, error) {
	list, err := readSystems(ctx, r, "WHERE s.org_id = ? ORDER BY s.id", org)
	if err != nil {
		return nil, err
	}
	return list, decorate(ctx, r, list, "org_id = ?", org)
}

func readSystems(ctx context.Context, r reader, where string, args ...any) (list []System, err error) {
	err = rows(ctx, r, systemColumns+where, args, func(scan func(...any) error) error {
		s, err := scanSystem(scan)
		list = append(list, s)
		return err
	})
	return list, err
}

// decorate adds tags and trust marks to systems: two queries for however many
// systems, instead of two for each.
func decorate(ctx context.Context, r reader, list []System, where string, args ...any) error {
	at := make(map[wire.SystemID]*System, len(list))
	for i := range list {
		at[list[i].ID] = &list[i]
	}
	var id wire.SystemID
	err := rows(ctx, r, "SELECT system_id, tag FROM system_tags WHERE "+where+" ORDER BY tag", args, func(scan func(...any) error) error {
		var tag wire.Tag
		err := scan(&id, &tag)
		if s := at[id]; s != nil {
			s.Tags = append(s.Tags, tag)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = rows(ctx, r, "SELECT system_id, added FROM system_adds WHERE "+where+" ORDER BY added", args, func(scan func(...any) error) error {
		var added wire.SystemID
		err := scan(&id, &added)
		if s := at[id]; s != nil {
			s.Adds = append(s.Adds, added)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = rows(ctx, r, "SELECT system_id, shown, subnet FROM system_routes WHERE "+where+" ORDER BY shown", args, func(scan func(...any) error) error {
		var shown, subnet netip.Prefix
		err := scan(&id, prefixCol{&shown}, prefixCol{&subnet})
		if s := at[id]; s != nil {
			s.Routes = append(s.Routes, readRoute(shown, subnet))
		}
		return err
	})
	if err != nil {
		return err
	}
	return rows(ctx, r, "SELECT system_id, requirement, until, claims FROM trust_marks WHERE "+where+" ORDER BY requirement", args,
		func(scan func(...any) error) error {
			var m TrustMark
			err := scan(&id, &m.Requirement, instantCol{&m.Until}, jsonCol{&m.Claims})
			if len(m.Claims) == 0 {
				m.Claims = nil
			}
			if s := at[id]; s != nil {
				s.Trust = append(s.Trust, m)
			}
			return err
		})
}

// find resolves an ID or a name in a table of ours that has both.
func find(ctx context.Context, r reader, org wire.OrgID, what, table, idOrName string) (string, error) {
	var byID string
	var byName []string
	err := rows(ctx, r, "SELECT id FROM "+table+" WHERE org_id = ?1 AND (id = ?2 OR name = ?2) ORDER BY id", []any{org, idOrName},
		func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			if id == idOrName {
				byID = id
			}
			byName = append(byName, id)
			return err
		})
	switch {
	case err != nil:
		return "", err
	case byID != "":
		return byID, nil
	case len(byName) == 0:
		return "", notFound(what, idOrName)
	case len(byName) > 1:
		return "", &AmbiguousError{idOrName, byName}
	}
	return byName[0], nil
}
