package discovery

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// System is a directory entry. Entries are replaced whole and never changed, so that
// a view may hold one without a lock.
type System struct {
	ID           wire.SystemID
	Name         string
	IPv4, IPv6   netip.Addr
	State        wire.SystemState
	Tags         []wire.Tag
	WireGuard    wire.WireGuardKey
	Disco        wire.DiscoKey
	KeySignature []byte
	SVID         [][]byte // DER chain, leaf first
	Reach        wire.Reach
}

// Counts reports whether the system may take part at all; one that does not gets a
// map without peers and stands in nobody else's.
func (s *System) Counts() bool {
	return s.State == wire.Connected || s.State == wire.Disconnected
}

// Introduction is a peer that some policy introduces, and the grants between the two
// in both directions.
type Introduction struct {
	Peer   *System
	Grants []wire.Grant
}

// View is everything one map is made of.
type View struct {
	Revision   wire.Revision
	ValidUntil time.Time // zero is for ever
	Org        wire.OrgID
	Zone       string
	Self       *System
	Introduced []Introduction
	Relays     []wire.Relay
	// Ticket returns the ticket with which Self and the peer meet at a relay; nil
	// leaves tickets out.
	Ticket func(peer wire.SystemID) []byte
}

// Map builds the map. A self that does not count gets neither peers nor relays,
// whatever the introductions say: this is the second lock on the door, the first is
// in control/policy.
func (v *View) Map() *wire.Map {
	m := &wire.Map{
		Revision:   v.Revision,
		ValidUntil: v.ValidUntil,
		Self: wire.Self{
			ID: v.Self.ID, Org: v.Org, Name: v.Self.Name, Zone: v.Zone,
			IPv4: v.Self.IPv4, IPv6: v.Self.IPv6, State: v.Self.State, Tags: v.Self.Tags,
		},
		Peers:  []wire.Peer{},
		Relays: []wire.Relay{},
	}
	if !v.Self.Counts() {
		return m
	}
	m.Peers = make([]wire.Peer, 0, len(v.Introduced))
	for _, in := range v.Introduced {
		if p := in.Peer; p != nil && p.ID != v.Self.ID && p.Counts() {
			m.Peers = append(m.Peers, v.peer(p, in.Grants))
		}
	}
	slices.SortFunc(m.Peers, func(a, b wire.Peer) int { return cmp.Compare(a.ID, b.ID) })
	m.Relays = slices.Clone(v.Relays)
	return m
}

func (v *View) peer(p *System, grants []wire.Grant) wire.Peer {
	peer := wire.Peer{
		ID: p.ID, Name: p.Name, IPv4: p.IPv4, IPv6: p.IPv6,
		WireGuard: p.WireGuard, Disco: p.Disco, SVID: p.SVID, KeySignature: p.KeySignature,
		Reach: p.Reach, Grants: slices.Clone(grants),
	}
	slices.SortFunc(peer.Grants, compareGrants)
	if v.Ticket != nil {
		peer.Ticket = v.Ticket(p.ID)
	}
	return peer
}

// compareGrants gives grants one order, so that equal rights compare equal and make
// no delta.
func compareGrants(a, b wire.Grant) int {
	return cmp.Or(
		cmp.Compare(a.From, b.From),
		cmp.Compare(a.Policy, b.Policy),
		cmp.Compare(a.Rule, b.Rule),
		a.NotBefore.Compare(b.NotBefore),
		a.NotAfter.Compare(b.NotAfter),
	)
}
