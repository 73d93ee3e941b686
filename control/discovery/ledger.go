package discovery

import (
	"maps"
	"slices"

	"enclave/wire"
)

// Ledger is what one stream has told its agent, as far as telling what is new needs it:
// of each peer a digest, 16 bytes where the peer itself has a kilobyte or more. It
// belongs to one goroutine.
type Ledger struct {
	revision wire.Revision
	self     wire.Self
	relays   []wire.Relay
	zones    []string
	peers    map[wire.SystemID]digest
	hasher   hasher
}

// Begun reports whether the first message was made.
func (l *Ledger) Begun() bool { return l.peers != nil }

// Revision is that of the last map or delta.
func (l *Ledger) Revision() wire.Revision { return l.revision }

// Map returns the first message of a stream. The view is no part.
func (l *Ledger) Map(v *View) *wire.Map {
	m := v.Map()
	l.revision, l.self, l.relays, l.zones = m.Revision, m.Self, m.Relays, m.DNS.Zones
	l.peers = make(map[wire.SystemID]digest, len(m.Peers))
	for i := range m.Peers {
		l.peers[m.Peers[i].ID] = l.hasher.peer(&m.Peers[i], v.Tickets)
	}
	return m
}

// Delta returns what turns the map that the agent has into that of the view, or nil when
// they differ in nothing but revision and validity: heartbeats extend the validity, and
// a system that a revision does not affect has nothing to apply. What it returns counts
// as told.
func (l *Ledger) Delta(v *View) *wire.Delta {
	d := &wire.Delta{Since: l.revision, Revision: v.Revision, ValidUntil: v.ValidUntil}
	if self := v.self(); !equalSelf(&self, &l.self) {
		d.Self, l.self = &self, self
	}
	relays := []wire.Relay{} // none is an empty list: no list at all says nothing new
	if v.Self.Counts() {
		relays = append(relays, v.Relays...)
	}
	if !slices.EqualFunc(relays, l.relays, equalRelay) {
		d.Relays, l.relays = &relays, relays
	}
	zones := []string{}
	if v.Self.Counts() {
		zones = append(zones, v.Zones...)
	}
	if !slices.Equal(zones, l.zones) {
		d.DNS, l.zones = &wire.DNS{Zones: zones}, zones
	}
	admitted := make(map[wire.SystemID]bool, len(v.Introduced))
	for i := range v.Introduced {
		in := &v.Introduced[i]
		if !v.admits(in) {
			continue
		}
		p := v.peer(in)
		admitted[p.ID] = true
		if sum := l.hasher.peer(&p, v.Tickets); l.peers[p.ID] != sum {
			l.peers[p.ID] = sum
			d.Upsert = append(d.Upsert, v.ticketed(p))
		}
	}
	of := slices.Values(v.Of)
	if !v.Part || !v.Self.Counts() { // whoever does not count knows nobody
		of = maps.Keys(l.peers)
	}
	for id := range of {
		if _, told := l.peers[id]; told && !admitted[id] {
			d.Gone = append(d.Gone, id)
			delete(l.peers, id)
		}
	}
	if d.Self == nil && d.Relays == nil && d.DNS == nil && len(d.Upsert) == 0 && len(d.Gone) == 0 {
		return nil
	}
	slices.SortFunc(d.Upsert, comparePeers)
	slices.Sort(d.Gone)
	l.revision = d.Revision
	return d
}
