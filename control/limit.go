package control

import (
	"net"
	"net/netip"
	"sync"

	"enclave/passage"
)

// limitListener bounds the connections one address may hold. A connection over the
// bound is closed at once, before a TLS handshake costs anything: one machine must
// not be able to use up the descriptors that all share.
type limitListener struct {
	net.Listener
	max     int
	refused func(from string) // told of each refusal; must not block

	mu   sync.Mutex // guards open; never held across I/O
	open map[string]int
}

func newLimitListener(l net.Listener, max int, refused func(string)) *limitListener {
	return &limitListener{Listener: l, max: max, refused: refused, open: make(map[string]int)}
}

// Accept returns the next connection within the bound.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := host(c.RemoteAddr().String())
		if l.enter(from) {
			// A Bulk, since the port may be shared with the relay's.
			return passage.NewBulk(&limitConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}), nil
		}
		_ = c.Close() // nothing was sent on it
		l.refused(from)
	}
}

func (l *limitListener) enter(from string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from] >= l.max {
		return false
	}
	l.open[from]++
	return true
}

func (l *limitListener) leave(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

type limitConn struct {
	net.Conn
	leave func()
}

// Close gives the place back, once.
func (c *limitConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// host is the address without its port; IPv6 addresses count by /64, which is what
// one subscriber has.
func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	ip, err := netip.ParseAddr(h)
	if err != nil || ip.Unmap().Is4() {
		return h
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return h
	}
	return p.String()
}
