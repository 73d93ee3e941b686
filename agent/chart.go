package agent

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// errOtherMap is returned for a map that is not this system's.
var errOtherMap = errors.New("the map is for another system")

// chart is what control has told this system, and what of it counts. It is pure: it
// is told the time, and says which peers are to be in force.
//
// What was told is kept whole, also peers that do not verify and peers whose hours
// are over: the next delta builds on it, and hours open again with control gone. What
// is in force is derived from it anew at each instant, so that nothing has to be
// undone (docs/decisions/0090).
type chart struct {
	self  wire.SystemID
	keys  wire.Keys // its own: nobody else may show them
	org   wire.OrgID
	roots *x509.CertPool
	seen  wire.Revision // the highest ever taken; the chart never goes back behind it

	told     *wire.Map // nil before the first; replaced, never changed
	believed []wire.Peer
	rejected []api.RejectedPeer
}

// take applies a message of the stream, whole or not at all. After an error the
// stream is of no use: the next one begins with a full map. It reports whether more
// than the validity has changed.
func (c *chart) take(m *wire.Message, now time.Time) (changed bool, err error) {
	switch {
	case m.Map != nil:
		return true, c.chartMap(*m.Map, now)
	case m.Delta != nil:
		if c.told == nil {
			return false, fmt.Errorf("delta: %w", wire.ErrGap)
		}
		if len(m.Delta.Cause) > wire.MaxCauseLen { // it goes into the log with each cut
			return false, fmt.Errorf("delta: a cause of %d bytes, at most %d", len(m.Delta.Cause), wire.MaxCauseLen)
		}
		next := *c.told
		if err := next.Apply(m.Delta); err != nil {
			return false, fmt.Errorf("delta: %w", err)
		}
		return true, c.chartMap(next, now)
	case m.Heartbeat != nil:
		if c.told == nil || c.told.Revision != m.Heartbeat.Revision {
			return false, fmt.Errorf("heartbeat: %w: it is of revision %d", wire.ErrGap, m.Heartbeat.Revision)
		}
		next := *c.told
		next.ValidUntil = m.Heartbeat.ValidUntil
		c.told = &next
	}
	return false, nil
}

// chartMap makes m what was told. Certificates are judged as of asOf.
func (c *chart) chartMap(m wire.Map, asOf time.Time) error {
	switch s := m.Self; {
	case m.Revision < c.seen:
		return fmt.Errorf("map: %w: have seen %d, got %d", wire.ErrOldRevision, c.seen, m.Revision)
	case m.Revision-c.seen > wire.MaxRevisionJump:
		return fmt.Errorf("map: %w: have seen %d, got %d", wire.ErrRevisionJump, c.seen, m.Revision)
	case s.ID != c.self:
		return fmt.Errorf("map: %w: %.20q", errOtherMap, s.ID)
	case (s.IPv4.IsValid() || s.IPv6.IsValid()) && !overlayAddrs(s.IPv4, s.IPv6):
		return fmt.Errorf("map: %s and %s are no overlay addresses", s.IPv4, s.IPv6)
	case len(s.Name) > wire.MaxNameLen || len(s.Zone) > wire.MaxNameLen:
		return errors.New("map: a name of this system is longer than any")
	case weight(&m) > wire.MaxMapMessage: // deltas add up; a full map of it could never be said
		return fmt.Errorf("map: it holds more than the %d bytes of one message", wire.MaxMapMessage)
	case len(m.Peers) > wire.MaxPeers || len(m.Relays) > wire.MaxRelays || len(m.DNS.Zones) > wire.MaxZones+1:
		return fmt.Errorf("map: more than %d peers, %d relays or %d zones", wire.MaxPeers, wire.MaxRelays, wire.MaxZones+1)
	}
	c.believe(&m, asOf)
	c.told, c.seen = &m, m.Revision
	return nil
}

// believe sorts the peers of m into those that verify and those that do not. A peer
// whose keys and certificate are the ones believed already is not judged again: it
// stays for as long as control names it and the map lives (docs/decisions/0091).
func (c *chart) believe(m *wire.Map, asOf time.Time) {
	old := make(map[wire.SystemID]*wire.Peer, len(c.believed))
	for i := range c.believed {
		old[c.believed[i].ID] = &c.believed[i]
	}
	t := newTaken(len(m.Peers) + 1)
	t.add(&wire.Peer{ID: c.self, IPv4: m.Self.IPv4, IPv6: m.Self.IPv6, WireGuard: c.keys.WireGuard, Disco: c.keys.Disco})
	believed := make([]wire.Peer, 0, len(m.Peers))
	c.rejected = nil
	for i := range m.Peers {
		p := &m.Peers[i]
		err := checkPeer(p)
		if err == nil {
			err = t.check(p)
		}
		if err == nil && !sameIdentity(old[p.ID], p) {
			_, err = svid.VerifyPeer(p, c.roots, c.org, asOf)
		}
		if err != nil {
			id := p.ID[:min(len(p.ID), wire.MaxNameLen)]
			c.rejected = append(c.rejected, api.RejectedPeer{ID: id, Reason: err.Error()})
			continue
		}
		t.add(p)
		believed = append(believed, *p)
	}
	slices.SortFunc(believed, func(a, b wire.Peer) int { return cmp.Compare(a.ID, b.ID) })
	c.believed = believed
}

func sameIdentity(a, b *wire.Peer) bool {
	return a != nil && a.WireGuard == b.WireGuard && a.Disco == b.Disco &&
		bytes.Equal(a.KeySignature, b.KeySignature) && slices.EqualFunc(a.SVID, b.SVID, bytes.Equal)
}

// checkPeer refuses what no data plane could be built from.
func checkPeer(p *wire.Peer) error {
	if _, err := wire.ParseSystemID(string(p.ID)); err != nil {
		return err
	}
	if _, err := wire.ParseName(p.Name); err != nil {
		return err
	}
	if len(p.Grants) > wire.MaxGrantsPerPeer || len(p.Reach.Candidates) > wire.MaxCandidates || len(p.Ticket) > wire.MaxTicketLen ||
		len(p.Names) > wire.MaxNamesPerPeer || len(p.Forwards) > wire.MaxZones {
		return errors.New("its entry is larger than the limits")
	}
	for i := range p.Grants {
		if g := &p.Grants[i]; len(g.Name) > wire.MaxNameLen || len(g.Ends) > wire.MaxClockLen || len(g.Names) > wire.MaxNamesPerPeer {
			return errors.New("a grant of its entry is larger than the limits")
		}
	}
	if !overlayAddrs(p.IPv4, p.IPv6) {
		return fmt.Errorf("%s and %s are no overlay addresses", p.IPv4, p.IPv6)
	}
	return nil
}

func overlayAddrs(v4, v6 netip.Addr) bool {
	return v4.Is4() && v6.Is6() && !v6.Is4In6() && v6.Zone() == "" && v4.IsGlobalUnicast() && v6.IsGlobalUnicast()
}

// taken tells who has an ID, an address or a key. Two peers that share one would make
// WireGuard refuse the whole list; the one that comes second is left out.
type taken struct {
	ids   map[wire.SystemID]bool
	addrs map[netip.Addr]wire.SystemID
	keys  map[[32]byte]wire.SystemID
}

func newTaken(n int) taken {
	return taken{make(map[wire.SystemID]bool, n), make(map[netip.Addr]wire.SystemID, 2*n), make(map[[32]byte]wire.SystemID, 2*n)}
}

func (t *taken) check(p *wire.Peer) error {
	if t.ids[p.ID] {
		return errors.New("it is this system itself, or named twice")
	}
	for _, a := range []netip.Addr{p.IPv4, p.IPv6} {
		if who, ok := t.addrs[a]; ok {
			return fmt.Errorf("address %s is that of %s", a, who)
		}
	}
	for _, k := range [][32]byte{p.WireGuard, p.Disco} {
		if who, ok := t.keys[k]; ok {
			return fmt.Errorf("key %s is that of %s", wire.WireGuardKey(k), who)
		}
	}
	return nil
}

func (t *taken) add(p *wire.Peer) {
	t.ids[p.ID] = true
	t.addrs[p.IPv4], t.addrs[p.IPv6] = p.ID, p.ID
	t.keys[p.WireGuard], t.keys[p.Disco] = p.ID, p.ID
}

// over reports whether the life of the map has ended without word from control.
func (c *chart) over(now time.Time) bool {
	return c.told != nil && !c.told.ValidUntil.IsZero() && !now.Before(c.told.ValidUntil)
}

// inForce returns the peers that count at now: nobody once the map's life is over,
// else those with a grant that counts. A pair without one is unknown to each other,
// whatever the map still carries.
func (c *chart) inForce(now time.Time) []wire.Peer {
	if c.over(now) {
		return nil
	}
	var peers []wire.Peer
	for _, p := range c.believed {
		if slices.ContainsFunc(p.Grants, func(g wire.Grant) bool { return g.ActiveAt(now) }) {
			peers = append(peers, p)
		}
	}
	return peers
}

// next returns the first instant after now at which what is in force may change;
// zero is never.
func (c *chart) next(now time.Time) (next time.Time) {
	if c.told == nil || c.over(now) {
		return next
	}
	earlier := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	earlier(c.told.ValidUntil)
	for i := range c.believed {
		for _, g := range c.believed[i].Grants {
			earlier(g.NotBefore)
			earlier(g.NotAfter)
		}
	}
	return next
}
