package control

import (
	"net"
	"sync"

	"enclave/passage"
	"enclave/wire"
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
		from := wire.SubscriberOf(c.RemoteAddr().String())
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
