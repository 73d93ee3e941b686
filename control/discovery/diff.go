package discovery

import (
	"bytes"
	"slices"

	"enclave/wire"
)

// Diff returns the delta that turns old into new, or nil when they are equal. Both
// must be sorted by peer ID, as [View.Map] leaves them, and new must not be of a
// lower revision: no agent would take it.
func Diff(old, new *wire.Map) *wire.Delta {
	d := &wire.Delta{Since: old.Revision, Revision: new.Revision, ValidUntil: new.ValidUntil}
	if !equalSelf(&old.Self, &new.Self) {
		self := new.Self
		d.Self = &self
	}
	if !slices.EqualFunc(old.Relays, new.Relays, equalRelay) {
		relays := new.Relays
		d.Relays = &relays
	}
	diffPeers(d, old.Peers, new.Peers)
	if Empty(d) && old.Revision == new.Revision && old.ValidUntil.Equal(new.ValidUntil) {
		return nil
	}
	return d
}

// Empty reports whether d changes nothing but the revision and the validity. Such a
// delta need not be sent: heartbeats extend the validity, and a system that a
// revision does not affect has nothing to apply.
func Empty(d *wire.Delta) bool {
	return d == nil || d.Self == nil && d.Relays == nil && len(d.Upsert) == 0 && len(d.Gone) == 0
}

// diffPeers walks both sorted lists once.
func diffPeers(d *wire.Delta, old, new []wire.Peer) {
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		switch {
		case j == len(new) || i < len(old) && old[i].ID < new[j].ID:
			d.Gone = append(d.Gone, old[i].ID)
			i++
		case i == len(old) || new[j].ID < old[i].ID:
			d.Upsert = append(d.Upsert, new[j])
			j++
		default:
			if !equalPeer(&old[i], &new[j]) {
				d.Upsert = append(d.Upsert, new[j])
			}
			i, j = i+1, j+1
		}
	}
}

func equalSelf(a, b *wire.Self) bool {
	return a.ID == b.ID && a.Org == b.Org && a.Name == b.Name && a.Zone == b.Zone &&
		a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 && a.State == b.State && slices.Equal(a.Tags, b.Tags)
}

func equalRelay(a, b wire.Relay) bool {
	return a.ID == b.ID && a.Addr == b.Addr && slices.Equal(a.STUN, b.STUN)
}

func equalPeer(a, b *wire.Peer) bool {
	return a.ID == b.ID && a.Name == b.Name && a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 &&
		a.WireGuard == b.WireGuard && a.Disco == b.Disco &&
		bytes.Equal(a.KeySignature, b.KeySignature) && bytes.Equal(a.Ticket, b.Ticket) &&
		slices.EqualFunc(a.SVID, b.SVID, bytes.Equal) && EqualReach(&a.Reach, &b.Reach) &&
		slices.EqualFunc(a.Grants, b.Grants, equalGrant)
}

// EqualReach reports whether two reports say the same.
func EqualReach(a, b *wire.Reach) bool {
	return a.Relay == b.Relay && a.NAT == b.NAT && slices.Equal(a.Candidates, b.Candidates)
}

// equalGrant compares instants, not their representation: the same instant read from
// the store may stand in another zone. Nil ports, which are all ports, differ from
// an empty list, which is none.
func equalGrant(a, b wire.Grant) bool {
	return a.From == b.From && a.To == b.To && a.Proto == b.Proto && a.Policy == b.Policy && a.Rule == b.Rule &&
		a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter) &&
		(a.Ports == nil) == (b.Ports == nil) && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Subnets, b.Subnets)
}

// SameToPeers reports whether two entries of a system read the same in a peer's map.
func SameToPeers(a, b *System) bool {
	var v View
	pa, pb := v.peer(a, nil), v.peer(b, nil)
	return equalPeer(&pa, &pb)
}
