package agent

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"enclave/wire"
)

// directory is who is in force, by every name. It is immutable but for the marks of
// having met.
type directory struct {
	zone   string
	peers  []wire.Peer // sorted by ID
	byID   map[wire.SystemID]*contact
	byName map[string][]*contact
	byAddr map[netip.Addr]*contact
}

// contact is a peer from its introduction until it ends.
type contact struct {
	*wire.Peer
	met *atomic.Bool // it has answered a probe since it was introduced
}

// follow returns the directory of peers. Who was in the one before, with the same
// key, has been met if it was.
func (d *directory) follow(zone string, peers []wire.Peer) *directory {
	next := &directory{
		zone: zone, peers: peers, byID: make(map[wire.SystemID]*contact, len(peers)),
		byName: make(map[string][]*contact, len(peers)), byAddr: make(map[netip.Addr]*contact, 2*len(peers)),
	}
	for i := range peers {
		c := &contact{&peers[i], new(atomic.Bool)}
		if old := d.byID[c.ID]; old != nil && old.WireGuard == c.WireGuard {
			c.met = old.met
		}
		next.byID[c.ID] = c
		next.byName[c.Name] = append(next.byName[c.Name], c)
		next.byAddr[c.IPv4], next.byAddr[c.IPv6] = c, c
	}
	return next
}

// find returns the peers a name stands for: web, web.enclave, k7m2q.id.enclave or
// an overlay address. Case and a final dot do not matter (RFC 1035, 2.3.3). A bare
// system ID works where no system has it for a name.
func (d *directory) find(name string) []*contact {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		return one(d.byAddr[addr.Unmap()])
	}
	if d.zone != "" {
		name = strings.TrimSuffix(name, "."+d.zone)
	}
	if id, ok := strings.CutSuffix(name, ".id"); ok {
		return one(d.byID[wire.SystemID(id)])
	}
	if found := d.byName[name]; found != nil {
		return found
	}
	return one(d.byID[wire.SystemID(name)])
}

func one(c *contact) []*contact {
	if c == nil {
		return nil
	}
	return []*contact{c}
}
