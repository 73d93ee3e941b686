package session

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"enclave/wire"
)

// maxFromOne is how many connections one address may hold; IPv6 addresses count by /64,
// which is what one subscriber has. It is far above what a client needs, and far below the
// descriptors that all callers share: who has no token must not be able to use those up.
const maxFromOne = 256

// fair closes connections of an address that holds too many, before a handshake of TLS
// costs anything. Loopback is left out, and so are the reverse proxies that an operator
// names: they bring everybody.
type fair struct {
	net.Listener
	proxies []netip.Prefix

	mu   sync.Mutex // guards open; never held across I/O
	open map[netip.Addr]int
}

func newFair(l net.Listener, proxies []netip.Prefix) *fair {
	return &fair{Listener: l, proxies: proxies, open: make(map[netip.Addr]int)}
}

// Accept returns the next connection within the bound.
func (l *fair) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, ok := l.caller(c.RemoteAddr())
		if !ok {
			return c, nil
		}
		if l.enter(from) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		c.Close()
	}
}

func (l *fair) enter(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from] >= maxFromOne {
		return false
	}
	l.open[from]++
	return true
}

func (l *fair) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// caller is whom a connection counts for, if it does.
func (l *fair) caller(a net.Addr) (netip.Addr, bool) {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}, false
	}
	from := at.Addr().Unmap().WithZone("")
	if from.IsLoopback() || slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return netip.Addr{}, false
	}
	return wire.Subscriber(from).Addr(), true
}

// counted gives its place back when it closes, once.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
