package relay

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// door counts connections before they have proved who they are. Unauthenticated ones
// have their own limit, so that however many strangers knock, they take no place of
// a client; the roster has the limit of clients. Nor do they keep clients out: one source
// has a part of the places, and when all are taken, whoever has waited longest goes. An
// honest handshake takes two round trips, and a flood has to be as fast as all places in
// that time to be felt (docs/decisions/0187).
type door struct {
	mu       sync.Mutex
	waiting  list.List                // of *visitor, the oldest first
	bySource map[netip.Prefix]*source // no larger than there are connections
}

// source is who comes from one prefix.
type source struct{ all, waiting int }

// visitor is a connection that was let in.
type visitor struct {
	src netip.Prefix  // invalid: not limited
	at  *list.Element // nil once it has proved who it is, or was turned out
	cut func()        // ends its connection; it must not block
}

// sourceParts is which part of all handshakes one source may have under way.
const sourceParts = 8

func newDoor() *door { return &door{bySource: map[netip.Prefix]*source{}} }

// enter counts a connection in and names the limit that it would exceed, or that another
// was turned out for. Without a visitor it is refused.
func (d *door) enter(src netip.Prefix, cut func(), l *Limits) (*visitor, event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.bySource[src]
	if src.IsValid() {
		switch {
		case s == nil:
			s = new(source)
			d.bySource[src] = s
		case s.all >= l.PerAddress:
			return nil, refusedAddress
		case s.waiting >= max(1, l.Handshakes/sourceParts):
			return nil, refusedHandshakes
		}
		s.all++
		s.waiting++
	}
	ev := event(0)
	if d.waiting.Len() >= l.Handshakes {
		d.turnOut()
		ev = refusedHandshakes
	}
	v := &visitor{src: src, cut: cut}
	v.at = d.waiting.PushBack(v)
	return v, ev
}

// turnOut ends the handshake that is the oldest; false: there is none. The caller holds mu.
func (d *door) turnOut() bool {
	e := d.waiting.Front()
	if e == nil {
		return false
	}
	v := e.Value.(*visitor)
	d.settled(v)
	v.cut()
	return true
}

// room turns somebody out, when there is somebody.
func (d *door) room() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.turnOut()
}

// settled ends the part of a connection that counts as a handshake. The caller holds mu.
func (d *door) settled(v *visitor) {
	if v.at == nil {
		return
	}
	d.waiting.Remove(v.at)
	v.at = nil
	if s := d.bySource[v.src]; s != nil {
		s.waiting--
	}
}

// proved is settled for who has shown who it is.
func (d *door) proved(v *visitor) {
	d.mu.Lock()
	d.settled(v)
	d.mu.Unlock()
}

func (d *door) leave(v *visitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled(v)
	s := d.bySource[v.src]
	if s == nil {
		return
	}
	if s.all--; s.all <= 0 {
		delete(d.bySource, v.src)
	}
}

func (d *door) handshakes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting.Len()
}

// sourceOf returns what counts as one source of connections: an IPv4 address, or an
// IPv6 /64, which is the least that anybody is given. Without an IP address (a pipe)
// it is invalid and not limited.
func sourceOf(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	if !ip.IsValid() {
		return netip.Prefix{}
	}
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}
