package agent

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

// directory is who is in force, by every name. It is immutable but for the marks of
// having met.
type directory struct {
	zone   string
	names  *names.View
	peers  []wire.Peer // sorted by ID
	byID   map[wire.SystemID]*contact
	byAddr map[netip.Addr]*contact
	lapses []lapse // who was in force and is not, oldest first
}

// contact is a peer from its introduction until it ends.
type contact struct {
	*wire.Peer
	met *atomic.Bool // it has answered a probe since it was introduced
}

// follow returns the directory of peers. Who was in the one before, with the same
// key, has been met if it was.
func (d *directory) follow(zone string, dns wire.DNS, peers []wire.Peer) *directory {
	next := &directory{
		zone: zone, names: names.New(zone, dns, peers), peers: peers, byID: make(map[wire.SystemID]*contact, len(peers)),
		byAddr: make(map[netip.Addr]*contact, 2*len(peers)),
	}
	for i := range peers {
		c := &contact{&peers[i], new(atomic.Bool)}
		if old := d.byID[c.ID]; old != nil && old.WireGuard == c.WireGuard {
			c.met = old.met
		}
		next.byID[c.ID] = c
		next.byAddr[c.IPv4], next.byAddr[c.IPv6] = c, c
	}
	return next
}

// find returns the peers a name stands for at now: web.enclave, web, k7m2q.id.enclave, a
// name of a record, or an overlay address. Names are looked up as the stub resolver looks
// them up (wire/names); a bare one is in the zone of the systems' names, and a bare
// system ID works where it is no name.
func (d *directory) find(name string, now time.Time) []*contact {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		return one(d.byAddr[addr.Unmap()])
	}
	if d.names == nil {
		return nil
	}
	a := d.names.Lookup([]byte(name), now)
	if a.Kind == names.Outside && d.zone != "" {
		a = d.names.Lookup([]byte(name+"."+d.zone), now)
	}
	if a.Kind == names.Found {
		var found []*contact
		for _, p := range a.In(now) {
			found = append(found, d.byID[p.ID])
		}
		return found
	}
	if d.zone != "" {
		name = strings.TrimSuffix(name, "."+d.zone)
	}
	return one(d.byID[wire.SystemID(strings.TrimSuffix(name, ".id"))])
}

func one(c *contact) []*contact {
	if c == nil {
		return nil
	}
	return []*contact{c}
}
