package control

import (
	"net"
	"net/netip"
	"testing"
)

// pipeListener hands out connections whose remote address it is told.
type pipeListener struct{ conns chan net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

type addressed struct {
	net.Conn
	from string
}

func (a addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.from))
}

func TestLimitListener(t *testing.T) {
	in := &pipeListener{conns: make(chan net.Conn, 8)}
	dial := func(from string) {
		_, far := net.Pipe()
		in.conns <- addressed{far, from}
	}
	var refused []string
	l := newLimitListener(in, 2, func(from string) { refused = append(refused, from) })

	dial("192.0.2.1:1000")
	dial("192.0.2.1:1001")
	dial("192.0.2.1:1002") // over the bound: skipped
	dial("192.0.2.2:1000") // another address
	first, _ := l.Accept()
	l.Accept()
	other, _ := l.Accept()
	if other.RemoteAddr().String() != "192.0.2.2:1000" || len(refused) != 1 {
		t.Fatalf("got %v, refused %v", other.RemoteAddr(), refused)
	}
	first.Close()
	first.Close() // gives one place back, not two
	dial("192.0.2.1:1003")
	dial("192.0.2.1:1004")
	close(in.conns)
	if c, err := l.Accept(); err != nil || c.RemoteAddr().String() != "192.0.2.1:1003" {
		t.Fatalf("place not given back: %v %v", c, err)
	}
	if _, err := l.Accept(); err == nil || len(refused) != 2 {
		t.Fatalf("closing twice gave two places: %v", refused)
	}
}

// TestAddress: a key that enrols from a range holds against the whole address of a caller,
// and not against the part that its calls are counted by.
func TestAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80":          "192.0.2.1",
		"[2001:db8:1:2::9]:80":  "2001:db8:1:2::9",
		"[fe80::1%eth0]:80":     "fe80::1",
		"[::ffff:192.0.2.1]:80": "192.0.2.1",
		"pipe":                  "pipe",
	} {
		if got := address(remote); got != want {
			t.Errorf("address(%q) = %q, want %q", remote, got, want)
		}
	}
}
