package session

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// callers is a listener whose connections come from where the test says.
type callers struct {
	net.Listener
	from  []string
	conns []net.Conn // to be handed out; none are needed where nobody reads
}

type calling struct {
	net.Conn
	from net.Addr
}

func (c *calling) RemoteAddr() net.Addr { return c.from }
func (c *calling) Close() error {
	if c.Conn != nil {
		return c.Conn.Close()
	}
	return nil
}

func (l *callers) Addr() net.Addr { return &net.TCPAddr{} }
func (l *callers) Close() error   { return nil }

func (l *callers) Accept() (net.Conn, error) {
	if len(l.from) == 0 {
		return nil, net.ErrClosed
	}
	at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.from[0]))
	l.from = l.from[1:]
	c := &calling{from: at}
	if len(l.conns) > 0 {
		c.Conn, l.conns = l.conns[0], l.conns[1:]
	}
	return c, nil
}

// TestOneAddressLeavesRoom: whoever connects without end, with or without a token, keeps
// nobody else out.
func TestOneAddressLeavesRoom(t *testing.T) {
	from := &callers{}
	for range 2 * maxFromOne {
		from.from = append(from.from, "198.51.100.9:7", "192.0.2.1:7", "[2001:db8::1]:7", "[2001:db8::2]:7")
	}
	from.from = append(from.from, "192.0.2.2:7", "[2001:db8:0:1::1]:7")
	for range maxFromOne + 1 {
		from.from = append(from.from, "127.0.0.1:7")
	}
	l := newFair(from, []netip.Prefix{netip.MustParsePrefix("198.51.100.8/29")})
	let := map[string]int{}
	var all []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		let[host]++
		all = append(all, c)
	}
	if let["192.0.2.1"] != maxFromOne || let["2001:db8::1"]+let["2001:db8::2"] != maxFromOne || let["192.0.2.2"] != 1 || let["2001:db8:0:1::1"] != 1 ||
		let["127.0.0.1"] != maxFromOne+1 || let["198.51.100.9"] != 2*maxFromOne {
		t.Errorf("let in %v", let)
	}
	for _, c := range all {
		c.Close()
		c.Close()
	}
	if len(l.open) != 0 {
		t.Errorf("%v are remembered", l.open)
	}
}

// TestServersLeaveRoom: what Run serves goes by that bound.
func TestServersLeaveRoom(t *testing.T) {
	from := &callers{}
	for range maxFromOne + 1 {
		near, far := net.Pipe()
		defer far.Close()
		from.conns, from.from = append(from.conns, near), append(from.from, "192.0.2.1:7")
	}
	last := from.conns[maxFromOne]
	if err := server(t, one, nil).Run(t.Context(), from); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if err := last.SetDeadline(time.Now()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the one too many: %v", err)
	}
}
