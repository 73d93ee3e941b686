package control

import (
	"net"
	"net/http"
	"sync"

	"enclave/passage"
)

// streams takes connections that came inside a WebSocket, from networks that let only the
// web pass, back to the TLS listener: on them the same handshakes, protocols and
// identities count as on any other. They keep their place in the limit of connections of
// an address, since the outer connection stays.
type streams struct {
	next   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newStreams() *streams {
	return &streams{next: make(chan net.Conn), closed: make(chan struct{})}
}

// before answers requests for a stream and hands the others on.
func (s *streams) before(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != passage.Path || r.TLS == nil {
			h.ServeHTTP(w, r)
			return
		}
		// A stream inside a stream would let one connection cost as much as many.
		if _, nested := r.Context().Value(http.LocalAddrContextKey).(streamAddr); nested {
			http.Error(w, "a stream inside a stream", http.StatusForbidden)
			return
		}
		c, err := passage.Upgrade(w, r)
		if err != nil {
			return
		}
		select {
		case s.next <- &taken{c}:
		case <-s.closed:
			c.Close()
		}
	})
}

// taken is a stream as the server sees it.
type taken struct{ net.Conn }

// streamAddr marks the local address of a connection that came as a stream.
type streamAddr struct{ net.Addr }

// LocalAddr implements net.Conn.
func (t *taken) LocalAddr() net.Addr { return streamAddr{t.Conn.LocalAddr()} }

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.next:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *streams) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *streams) Addr() net.Addr { return streamAddr{&net.TCPAddr{}} }
