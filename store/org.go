package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"enclave/wire"
)

// Org is the organisation. CAKey and TicketKey are secret.
type Org struct {
	ID        wire.OrgID
	Name      string
	CACert    []byte // DER of the root
	CAKey     []byte // as control/enrol encodes it
	TicketKey []byte // seed of the key that signs relay tickets
	IPv4      netip.Prefix
	IPv6      netip.Prefix
	Settings  Settings
	CreatedAt time.Time
	Revision  wire.Revision
}

// Settings are what an administrator may tune for the whole organisation.
type Settings struct {
	Zone     string        `json:"zone"`      // DNS zone of the systems' names
	MapLife  time.Duration `json:"map_life"`  // how long a map counts without contact; 0 is for ever
	SVIDLife time.Duration `json:"svid_life"` // lifetime of an SVID
}

// DefaultSettings are the settings of a new organisation.
func DefaultSettings() Settings {
	return Settings{Zone: "enclave", MapLife: wire.MapLife, SVIDLife: 24 * time.Hour}
}

// DefaultIPv4 is the shared address space of RFC 6598, which no site routes.
func DefaultIPv4() netip.Prefix { return netip.MustParsePrefix("100.64.0.0/10") }

// InitParams make an organisation. An invalid IPv4 means DefaultIPv4, an invalid
// IPv6 a random unique local /48 (RFC 4193), a zero Settings the defaults.
type InitParams struct {
	ID        wire.OrgID
	Name      string
	CACert    []byte
	CAKey     []byte
	TicketKey []byte
	IPv4      netip.Prefix
	IPv6      netip.Prefix
	Settings  Settings
}

// Init creates the organisation on first start. A store has one; a second Init is
// an ErrConflict.
func (s *Store) Init(ctx context.Context, c Change, p InitParams) (Org, error) {
	o := Org{ID: p.ID, Name: p.Name, CACert: p.CACert, CAKey: p.CAKey, TicketKey: p.TicketKey,
		IPv4: p.IPv4.Masked(), IPv6: p.IPv6.Masked(), Settings: p.Settings, CreatedAt: c.At.UTC(), Revision: 1}
	if !o.IPv4.IsValid() {
		o.IPv4 = DefaultIPv4()
	}
	if !o.IPv6.IsValid() {
		o.IPv6 = uniqueLocal()
	}
	if o.Settings == (Settings{}) {
		o.Settings = DefaultSettings()
	}
	if err := s.init(ctx, c, o); err != nil {
		return Org{}, fmt.Errorf("create organisation: %w", translate(err))
	}
	s.org.Store(&o.ID)
	return o, nil
}

func (s *Store) init(ctx context.Context, c Change, o Org) error {
	switch {
	case o.ID == "" || c.By == "" || c.At.IsZero():
		return errors.New("it needs an ID, an actor and an instant")
	case !o.IPv4.Addr().Is4() || o.IPv4.Bits() > 30:
		return fmt.Errorf("IPv4 prefix %s: want an IPv4 prefix of at most 30 bits", o.IPv4)
	case !o.IPv6.Addr().Is6() || o.IPv6.Bits() > 64:
		return fmt.Errorf("IPv6 prefix %s: want an IPv6 prefix of at most 64 bits", o.IPv6)
	}
	settings, err := toJSON(o.Settings)
	if err != nil {
		return err
	}
	caKey, err := s.keys.Seal(orgSecret(o.ID, "ca_key"), o.CAKey)
	if err != nil {
		return err
	}
	ticketKey, err := s.keys.Seal(orgSecret(o.ID, "ticket_key"), o.TicketKey)
	if err != nil {
		return err
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var there int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM organisation").Scan(&there); err != nil {
		return err
	}
	if there > 0 {
		return conflict("the store has an organisation already")
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO organisation
		(org_id, name, ca_cert, ca_key, ticket_key, ipv4, ipv6, settings, revision, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		o.ID, o.Name, o.CACert, caKey, ticketKey, o.IPv4.String(), o.IPv6.String(), settings, o.Revision, c.At.UnixNano())
	if err != nil {
		return err
	}
	if err := s.beginLog(ctx, tx, o.ID); err != nil {
		return err
	}
	w := writing{Tx: tx, s: s, org: o.ID, c: c, rev: o.Revision, bumped: true}
	if err := w.record(ctx, "organisation.create", "organisation:"+string(o.ID), nil); err != nil {
		return err
	}
	return tx.Commit()
}

// Org returns the organisation, or ErrNotFound before Init.
func (s *Store) Org(ctx context.Context) (o Org, err error) {
	err = s.view(ctx, "read organisation", func(r reader, org wire.OrgID) error {
		err := r.QueryRowContext(ctx, `SELECT org_id, name, ca_cert, ca_key, ticket_key, ipv4, ipv6, settings, revision, created_at
			FROM organisation WHERE org_id = ?`, org).Scan(&o.ID, &o.Name, &o.CACert, &o.CAKey, &o.TicketKey,
			prefixCol{&o.IPv4}, prefixCol{&o.IPv6}, jsonCol{&o.Settings}, &o.Revision, instantCol{&o.CreatedAt})
		if err != nil {
			return err
		}
		if o.CAKey, err = s.keys.Open(orgSecret(o.ID, "ca_key"), o.CAKey); err != nil {
			return fmt.Errorf("%w: CA key: %w", ErrDamaged, err)
		}
		if o.TicketKey, err = s.keys.Open(orgSecret(o.ID, "ticket_key"), o.TicketKey); err != nil {
			return fmt.Errorf("%w: ticket key: %w", ErrDamaged, err)
		}
		return nil
	})
	return o, err
}

// SetSettings replaces the settings of the organisation.
func (s *Store) SetSettings(ctx context.Context, c Change, settings Settings) (wire.Revision, error) {
	return s.change(ctx, "change settings", c, func(w *writing) error {
		text, err := toJSON(settings)
		if err != nil {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		err = w.exec(ctx, ErrNotFound, "UPDATE organisation SET settings = ? WHERE org_id = ?", text, w.org)
		if err != nil {
			return err
		}
		return w.record(ctx, "organisation.settings", "organisation:"+string(w.org), settings)
	})
}

// Revision returns the current revision.
func (s *Store) Revision(ctx context.Context) (rev wire.Revision, err error) {
	err = s.view(ctx, "read revision", func(r reader, org wire.OrgID) (err error) {
		rev, err = revision(ctx, r, org)
		return err
	})
	return rev, err
}

// RevisionAt returns the instant at which a revision was made.
func (s *Store) RevisionAt(ctx context.Context, rev wire.Revision) (at time.Time, err error) {
	err = s.view(ctx, "read revision", func(r reader, org wire.OrgID) error {
		err := r.QueryRowContext(ctx, "SELECT at FROM revisions WHERE org_id = ? AND revision = ?", org, rev).
			Scan(instantCol{&at})
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("revision", fmt.Sprint(rev))
		}
		return err
	})
	return at, err
}

// uniqueLocal makes a random prefix: fd, then 40 random bits (RFC 4193, 3.2).
func uniqueLocal() netip.Prefix {
	a := [16]byte{0: 0xfd}
	rand.Read(a[1:6])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}
