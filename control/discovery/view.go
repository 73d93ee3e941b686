package discovery

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
	naming "enclave/wire/names"
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
	Routes       []wire.Route   // for itself alone: what it may carry
	Names        []string       // that it answers to, sorted; never nil
	Forwards     []wire.Forward // zones it leads to, for whom it may
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

// View is everything one map is made of, or what a change may have altered of it.
type View struct {
	Revision   wire.Revision
	ValidUntil time.Time // zero is for ever
	Org        wire.OrgID
	Zone       string
	Self       *System
	Introduced []Introduction
	Relays     []wire.Relay
	Zones      []string // of names that are ours
	Tickets    Tickets  // nil leaves tickets out

	// Part says that the view is about the peers in Of alone: those of them that are not
	// introduced are gone, and all others are as they were.
	Part bool
	Of   []wire.SystemID
}

// Tickets are what Self and a peer meet at a relay with. The end tells one ticket of a
// pair from the next, so that only what is sent is signed.
type Tickets interface {
	Until(peer wire.SystemID) time.Time
	Ticket(peer wire.SystemID) []byte
}

// Map builds the map of a view that is no part. A self that does not count gets neither
// peers nor relays, whatever the introductions say: this is the second lock on the door,
// the first is in control/policy.
func (v *View) Map() *wire.Map {
	m := &wire.Map{Revision: v.Revision, ValidUntil: v.ValidUntil, Self: v.self(), Peers: []wire.Peer{}, Relays: []wire.Relay{}, DNS: wire.DNS{Zones: []string{}}}
	if !v.Self.Counts() {
		return m
	}
	m.Peers = make([]wire.Peer, 0, len(v.Introduced))
	for i := range v.Introduced {
		if in := &v.Introduced[i]; v.admits(in) {
			m.Peers = append(m.Peers, v.ticketed(v.peer(in)))
		}
	}
	slices.SortFunc(m.Peers, comparePeers)
	m.Relays = append(m.Relays, v.Relays...)
	m.DNS.Zones = append(m.DNS.Zones, v.Zones...)
	return m
}

func (v *View) self() wire.Self {
	return wire.Self{
		ID: v.Self.ID, Org: v.Org, Name: v.Self.Name, Zone: v.Zone,
		IPv4: v.Self.IPv4, IPv6: v.Self.IPv6, State: v.Self.State, Tags: v.Self.Tags, Routes: v.Self.Routes,
	}
}

// admits reports whether an introduction makes a peer.
func (v *View) admits(in *Introduction) bool {
	return v.Self.Counts() && in.Peer != nil && in.Peer.ID != v.Self.ID && in.Peer.Counts()
}

// peer is a peer without its ticket.
func (v *View) peer(in *Introduction) wire.Peer {
	p, grants := in.Peer, in.Grants
	if !slices.IsSortedFunc(grants, compareGrants) {
		grants = slices.SortedFunc(slices.Values(grants), compareGrants)
	}
	return wire.Peer{
		ID: p.ID, Name: p.Name, IPv4: p.IPv4, IPv6: p.IPv6,
		WireGuard: p.WireGuard, Disco: p.Disco, SVID: p.SVID, KeySignature: p.KeySignature,
		Reach: p.Reach, Grants: grants, Names: p.Names, Forwards: naming.Told(p.Forwards, grants, v.Self.ID),
	}
}

func (v *View) ticketed(p wire.Peer) wire.Peer {
	if v.Tickets != nil {
		p.Ticket = v.Tickets.Ticket(p.ID)
	}
	return p
}

func comparePeers(a, b wire.Peer) int { return cmp.Compare(a.ID, b.ID) }

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
