package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"enclave/wire"
)

// asked is the request that e stands for, as a sender writes it.
func asked(e echo) []byte {
	e.src, e.dst = e.dst, e.src
	b := e.reply()
	b[len(b)-len(e.payload)-8] = map[bool]byte{true: 8, false: 128}[e.dst.Is4()]
	return b
}

func echoes() (four, six echo) {
	return echo{src: netip.MustParseAddr("100.64.0.1"), dst: netip.MustParseAddr("10.0.0.1"), id: 7, seq: 9, payload: []byte("abc")},
		echo{src: netip.MustParseAddr("fd2d::1"), dst: netip.MustParseAddr("fd00::1"), id: 7, seq: 9, payload: []byte("abcd")}
}

func TestEchoRequestsAreReadWhole(t *testing.T) {
	four, six := echoes()
	for _, want := range []echo{four, six} {
		b := asked(want)
		got, ok := parseEcho(b)
		if !ok || got.src != want.src || got.dst != want.dst || got.id != want.id || got.seq != want.seq || !slices.Equal(got.payload, want.payload) {
			t.Errorf("%+v, %v", got, ok)
		}
		if got, ok := parseEcho(append(slices.Clone(b), 1, 2, 3)); !ok || !slices.Equal(got.payload, want.payload) {
			t.Errorf("with something behind it: %+v", got)
		}
		for n := range b {
			if _, ok := parseEcho(b[:n]); ok {
				t.Fatalf("%d bytes of %d are read as a request", n, len(b))
			}
		}
		r := got.reply()
		h := len(r) - 8 - len(want.payload)
		if typ := map[bool]byte{true: 0, false: 129}[want.dst.Is4()]; r[h] != typ || binary.BigEndian.Uint16(r[h+4:]) != 7 || binary.BigEndian.Uint16(r[h+6:]) != 9 || string(r[h+8:]) != string(want.payload) {
			t.Errorf("the answer reads % x", r)
		}
		pseudo := append(append(slices.Clone(r[map[int]int{20: 12, 40: 8}[h]:h]), 0, 0, 0, byte(len(r)-h)), 0, 0, 0, 58)
		if h == 20 {
			pseudo = nil // ICMP over IPv4 has none
			if !whole(r[:20]) {
				t.Errorf("the checksum of the header % x", r[:20])
			}
		}
		if !whole(append(pseudo, r[h:]...)) {
			t.Errorf("the checksum of % x", r[h:])
		}
		for name, spoil := range map[string]func(b []byte){
			"a code":       func(b []byte) { b[h+1] = 1 },
			"an answer":    func(b []byte) { b[h] = r[h] },
			"no ICMP":      func(b []byte) { b[map[int]int{20: 9, 40: 6}[h]] = 17 },
			"length short": func(b []byte) { copy(b[map[int]int{20: 2, 40: 4}[h]:], []byte{0, 7}) },
			"length long":  func(b []byte) { copy(b[map[int]int{20: 2, 40: 4}[h]:], []byte{1, 0}) },
		} {
			c := slices.Clone(b)
			spoil(c)
			if _, ok := parseEcho(c); ok {
				t.Errorf("%s, header of %d: read as a request", name, h)
			}
		}
	}
	frag := asked(four)
	frag[6] |= 0x20
	if _, ok := parseEcho(frag); ok {
		t.Error("a fragment is read as a request")
	}
	short := asked(four)
	short[0] = 4<<4 | 4
	if _, ok := parseEcho(short); ok {
		t.Error("a header of 16 bytes is read")
	}
}

// whole reports whether the words of b, its checksum among them, come to all ones (RFC 1071).
func whole(b []byte) bool {
	sum := 0
	for i, one := range b {
		sum += int(one) << (8 * (1 - i%2))
	}
	return sum > 0 && sum%0xffff == 0
}

// TestWhatIsNoEchoIsCounted, and where nobody can ping, too.
func TestWhatIsNoEchoIsCounted(t *testing.T) {
	four, _ := echoes()
	n := struct{ Network }{new(ground)} // no Pinger
	for name, g := range map[string]*Gateway{"no echo": newGateway(t, new(ground)), "no pinger": New(Config{Network: n, Back: new(ground)})} {
		pkt := asked(four)
		if name == "no echo" {
			pkt = pkt[:20]
		}
		g.Echo(pkt)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if st := g.Stats(); st.Refused != 1 || st.Echoes != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// pinged hears what goes back.
type pinged struct {
	*ground
	back chan []byte
}

func (p pinged) Send(pkt []byte)                                                { p.back <- slices.Clone(pkt) }
func (p pinged) Echo(_ context.Context, _ netip.Addr, _ uint16, _ []byte) error { return nil }

// unpingable is a host that gives its users no ping sockets.
type unpingable struct {
	*ground
	asked chan struct{}
}

func (u unpingable) Echo(context.Context, netip.Addr, uint16, []byte) error {
	defer close(u.asked)
	return fmt.Errorf("no ping socket: %w", &os.SyscallError{Syscall: "socket", Err: syscall.EACCES})
}

// TestNoPingSockets: what the host itself refuses is told to its operator, and is not
// counted as the silence of the network behind.
func TestNoPingSockets(t *testing.T) {
	n, said := unpingable{new(ground), make(chan struct{})}, new(bytes.Buffer)
	g := New(Config{Network: n, Back: n, Overlay: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}, Log: slog.New(slog.NewTextHandler(said, nil))})
	g.SetRoutes(NewRoutes([]wire.Route{route("10.0.0.0/24", "")}))
	four, _ := echoes()
	g.Echo(asked(four))
	<-n.asked
	if err := g.Close(); err != nil { // waits for the echo
		t.Fatal(err)
	}
	if s := g.Stats(); s.Refused != 1 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(said.String(), "no ping socket") || !strings.Contains(said.String(), "WARN") {
		t.Errorf("the log says %q", said)
	}
}

// TestEchoesGoBack: an echo is answered by the address that was asked, and after Close by
// nobody.
func TestEchoesGoBack(t *testing.T) {
	n := pinged{new(ground), make(chan []byte, 1)}
	g := New(Config{Network: n, Back: n, Overlay: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}, Known: func() []netip.Addr { return nil }})
	g.SetRoutes(NewRoutes([]wire.Route{route("10.0.0.0/24", "")}))
	four, _ := echoes()
	g.Echo(asked(four))
	r := <-n.back
	if netip.AddrFrom4([4]byte(r[12:16])) != four.dst || netip.AddrFrom4([4]byte(r[16:20])) != four.src {
		t.Errorf("answered % x", r)
	}
	four.dst = netip.MustParseAddr("10.0.1.1") // not of its routes
	g.Echo(asked(four))
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if s := g.Stats(); s.Echoes != 1 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	four.dst = netip.MustParseAddr("10.0.0.1")
	g.Echo(asked(four))
	if err := g.Close(); err != nil { // again, and nothing is under way
		t.Fatal(err)
	}
	if len(n.back) != 0 || g.Stats().Echoes != 1 || len(g.echoes) != 0 {
		t.Error("it answers after it was closed")
	}
	if g.ctx.Err() == nil {
		t.Error("what it began lives on")
	}
}
