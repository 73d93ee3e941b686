package relay

import (
	"net"
	"net/netip"
	"sync"
)

// door counts connections before they have proved who they are. Unauthenticated ones
// have their own limit, so that however many strangers knock, they take no place of
// a client; the roster has the limit of clients.
type door struct {
	mu         sync.Mutex
	handshakes int
	bySource   map[netip.Prefix]int // no larger than there are connections
}

func newDoor() *door { return &door{bySource: map[netip.Prefix]int{}} }

// enter counts a connection in and names the limit that it would exceed.
func (d *door) enter(src netip.Prefix, l *Limits) (event, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handshakes >= l.Handshakes {
		return refusedHandshakes, false
	}
	if src.IsValid() {
		if d.bySource[src] >= l.PerAddress {
			return refusedAddress, false
		}
		d.bySource[src]++
	}
	d.handshakes++
	return 0, true
}

// proved ends the part of a connection that counts as a handshake.
func (d *door) proved() {
	d.mu.Lock()
	d.handshakes--
	d.mu.Unlock()
}

func (d *door) leave(src netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !src.IsValid() {
		return
	}
	if d.bySource[src]--; d.bySource[src] <= 0 {
		delete(d.bySource, src)
	}
}

func (d *door) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handshakes
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
