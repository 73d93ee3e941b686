package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
)

// ground is a network on which every dial ends at the other end of a pipe.
type ground struct {
	own    []netip.Addr
	broken error

	mu     sync.Mutex // guards what follows
	dialed []string
	far    []net.Conn
}

func (g *ground) DialContext(_ context.Context, _, addr string) (net.Conn, error) {
	near, far := net.Pipe()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dialed, g.far = append(g.dialed, addr), append(g.far, far)
	return near, nil
}
func (g *ground) Addrs() ([]netip.Addr, error)                           { return g.own, g.broken }
func (g *ground) Echo(context.Context, netip.Addr, uint16, []byte) error { return nil }
func (g *ground) Send(pkt []byte)                                        {}
func (g *ground) last() string                                           { return g.dialed[len(g.dialed)-1] }
func at(s string) netip.AddrPort                                         { return netip.MustParseAddrPort(s) }
func route(subnet, as string) (r wire.Route) {
	r.Subnet = netip.MustParsePrefix(subnet)
	if as != "" {
		r.As = netip.MustParsePrefix(as)
	}
	return r
}

func newGateway(t *testing.T, n *ground, routes ...wire.Route) *Gateway {
	g := New(Config{Network: n, Back: n, Overlay: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd2d::/48")},
		Known: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("203.0.113.7")} }})
	if routes != nil {
		g.SetRoutes(NewRoutes(routes))
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// TestWhatNoGatewayReaches: whatever control grants, and also after translation.
func TestWhatNoGatewayReaches(t *testing.T) {
	n := &ground{own: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("2001:db8::1")}}
	everything := []wire.Route{route("0.0.0.0/0", ""), route("::/0", ""), route("127.0.0.0/24", "10.1.1.0/24"), route("192.168.1.0/24", "10.2.2.0/24")}
	g := newGateway(t, n, everything...)
	for _, addr := range []string{
		"127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "100.64.0.9", "100.100.100.200", "168.63.129.16",
		"192.0.0.192", "192.168.1.1", "203.0.113.7", "::1", "::", "fe80::1", "ff02::1", "fd2d::5", "2001:db8::1", "fd00:ec2::254", "fd20:ce::254",
		"64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2001:0:7f00:1::1", "::7f00:1", "2002:7f00:1::", "::ffff:127.0.0.1", "10.1.1.1", "10.2.2.1",
	} {
		if real, err := g.target(netip.MustParseAddr(addr)); err == nil {
			t.Errorf("%s leads to %s", addr, real)
		}
	}
	for addr, want := range map[string]string{"192.168.1.2": "192.168.1.2", "10.2.2.9": "192.168.1.9", "8.8.8.8": "8.8.8.8", "2001:db8::2": "2001:db8::2"} {
		if real, err := g.target(netip.MustParseAddr(addr)); err != nil || real.String() != want {
			t.Errorf("%s leads to %s, %v", addr, real, err)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("::1%lo"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("2001:db8::1%eth0")} {
		if g.judge(a) == nil {
			t.Errorf("%s is an address to reach", a)
		}
	}
	n.broken = errors.New("no interfaces")
	g.host.Store(nil)
	if _, err := g.target(netip.MustParseAddr("8.8.8.8")); err == nil {
		t.Error("a gateway that does not know its own addresses dials")
	}
}

// TestTheLongestRouteCounts, in whichever order control names them.
func TestTheLongestRouteCounts(t *testing.T) {
	list := []wire.Route{route("172.16.0.0/16", "10.1.0.0/16"), route("192.168.1.0/24", "10.1.1.0/24"), route("0.0.0.0/0", "")}
	for range len(list) {
		list = append(list[1:], list[0])
		r := NewRoutes(list)
		for shown, want := range map[string]string{"10.1.1.9": "192.168.1.9", "10.1.2.9": "172.16.2.9", "8.8.8.8": "8.8.8.8"} {
			if got, ok := r.Translate(netip.MustParseAddr(shown)); !ok || got.String() != want {
				t.Errorf("%s leads to %s by %v", shown, got, list)
			}
		}
	}
	if got, ok := new(Routes).Translate(netip.MustParseAddr("10.1.1.9")); !ok || got.String() != "10.1.1.9" {
		t.Errorf("without routes, 10.1.1.9 leads to %s, %v", got, ok)
	}
	if got, ok := new(Routes).Translate(netip.MustParseAddr("::ffff:10.1.1.9")); ok {
		t.Errorf("IPv4 in IPv6 leads to %s", got)
	}
}

// deaf is a ground whose hosts answer only at one address.
type deaf struct {
	ground
	at string
}

func (d *deaf) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.ground.DialContext(ctx, network, addr)
	if addr != d.at {
		c.Close()
		return nil, errors.New("nobody is there")
	}
	return c, err
}

// TestWhatIsNotReachedIsRefused: the sender's port is closed as the host's is; and of
// several addresses the first that answers is taken.
func TestWhatIsNotReachedIsRefused(t *testing.T) {
	n := &deaf{at: "10.0.0.2:80"}
	g := New(Config{Network: n, Back: n, Limits: Limits{TCP: 4, UDP: 4, Dial: time.Second}})
	defer g.Close()
	refusals := 0
	ask := func(dst string) {
		g.ForwardTCP(at("100.64.0.1:9"), at(dst), func() (net.Conn, error) { return nil, errors.New("the sender has gone") }, func() { refusals++ })
	}
	ask("10.0.0.1:80")
	if st := g.Stats(); refusals != 1 || st.Failed != 1 || st.Refused != 0 {
		t.Errorf("a closed port: %d refusals, %+v", refusals, st)
	}
	if ask("10.0.0.2:80"); refusals != 1 {
		t.Error("an open port is refused")
	}
	if _, err := n.far[1].Read(make([]byte, 1)); err == nil {
		t.Error("the host's connection outlives a sender that has gone")
	}
	_, end, err := g.begin(flowKey{wire.TCP, at("100.64.0.1:1"), at("10.0.0.2:80")}) // all of its share
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	ask("10.0.0.2:80")
	if ask("127.0.0.1:80"); refusals != 3 || g.Stats().Refused != 2 {
		t.Errorf("%d refusals, %+v", refusals, g.Stats())
	}
	var list []netip.Addr
	for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		list = append(list, netip.MustParseAddr(a))
	}
	c, real, err := g.dialAny(t.Context(), list, 80)
	if err != nil || real != list[1] {
		t.Fatalf("%s, %v", real, err)
	}
	c.Close()
	for n := range len(list) * 2 { // an address beyond maxTried is not tried
		tried := append(slices.Repeat(list[:1], n), list[1])
		if _, _, err := g.dialAny(t.Context(), tried, 80); (err == nil) != (n < maxTried) {
			t.Errorf("the one that answers is number %d: %v", n+1, err)
		}
	}
}

// TestADatagramFlow is carried both ways, and ends in silence on both sides.
func TestADatagramFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(ground)
		g := newGateway(t, n, route("192.168.1.0/24", "10.1.1.0/24"))
		near, sender := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); g.ForwardUDP(at("100.64.0.1:9"), at("10.1.1.7:53"), near) }()
		b := make([]byte, 9)
		for range 3 {
			sender.Write([]byte("ask"))
			synctest.Wait()
			if k, err := n.far[0].Read(b); err != nil || string(b[:k]) != "ask" || n.last() != "192.168.1.7:53" {
				t.Errorf("%s was asked %q, %v", n.last(), b[:k], err)
			}
			n.far[0].Write([]byte("answer"))
			if k, err := sender.Read(b); err != nil || string(b[:k]) != "answer" {
				t.Errorf("answered %q, %v", b[:k], err)
			}
			time.Sleep(g.cfg.Limits.Quiet - time.Second)
		}
		if st := g.Stats(); st.UDP != 1 {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Second)
		<-done
		for _, c := range []net.Conn{sender, n.far[0]} {
			if _, err := c.Read(b); err == nil {
				t.Error("an end goes on after silence")
			}
		}
		if st := g.Stats(); st.UDP != 0 || st.Opened != 1 {
			t.Errorf("%+v", st)
		}
		near, sender = net.Pipe()
		if g.ForwardUDP(at("100.64.0.1:9"), at("10.9.9.9:53"), near); len(n.far) != 1 || g.Stats().Refused != 1 {
			t.Errorf("outside its routes: %+v", g.Stats())
		}
		if _, err := sender.Read(b); err == nil {
			t.Error("what is refused stays open")
		}
	})
}

// TestACutEndsBothEnds: the far host's socket closes when the filter cuts the flow.
func TestACutEndsBothEnds(t *testing.T) {
	n := &ground{}
	g := newGateway(t, n, route("192.168.1.0/24", "10.1.1.0/24"))
	near, sender := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.ForwardTCP(at("100.64.0.1:9"), at("10.1.1.7:80"), func() (net.Conn, error) { return near, nil }, func() { t.Error("refused") })
	}()
	sender.Write([]byte("x"))
	n.mu.Lock()
	if n.last() != "192.168.1.7:80" {
		t.Errorf("dialled %s", n.last())
	}
	far := n.far[0]
	n.mu.Unlock()
	far.Read(make([]byte, 1))
	if s := g.Stats(); s.TCP != 1 || s.Opened != 1 {
		t.Errorf("%+v", s)
	}
	g.Cut(wire.Flow{Proto: wire.TCP, Src: at("100.64.0.1:9"), Dst: at("10.1.1.7:80")})
	<-done
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the far end goes on")
	}
	if s := g.Stats(); s.TCP != 0 || len(g.flows) != 0 {
		t.Errorf("left %+v, %v", s, g.flows)
	}
	refused := false
	g.ForwardTCP(at("100.64.0.1:9"), at("10.9.9.9:80"), nil, func() { refused = true })
	if !refused {
		t.Error("an address outside its routes was dialled")
	}
	g.Close()
	g.ForwardTCP(at("100.64.0.1:9"), at("10.1.1.7:80"), nil, func() {})
}

func TestRoutesAreChecked(t *testing.T) {
	for _, tc := range []struct{ subnet, as, want string }{
		{"192.168.1.0/24", "10.1.1.0/24", ""},
		{"192.168.1.1/24", "", "has host bits: write 192.168.1.0/24"},
		{"192.168.1.0/24", "10.1.0.0/16", "two subnets of the same size"},
		{"192.168.1.0/24", "fd00::/24", "two subnets of the same size"},
	} {
		err := route(tc.subnet, tc.as).Check()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s as %s: %v", tc.subnet, tc.as, err)
		}
	}
}

// FuzzMapping: a mapped address lies in the subnet behind, at the same place.
func FuzzMapping(f *testing.F) {
	f.Add([]byte{10, 1, 1, 0}, []byte{192, 168, 1, 0}, []byte{10, 1, 1, 9}, 24)
	f.Add([]byte{10, 1, 128, 0}, []byte{172, 16, 0, 0}, []byte{10, 1, 191, 9}, 18)
	f.Add(make([]byte, 16), make([]byte, 16), make([]byte, 16), 61)
	f.Fuzz(func(t *testing.T, shown, real, host []byte, bits int) {
		a, okA := netip.AddrFromSlice(shown)
		b, okB := netip.AddrFromSlice(real)
		c, okC := netip.AddrFromSlice(host)
		if !okA || !okB || !okC || a.BitLen() != b.BitLen() || c.BitLen() != a.BitLen() || c.Is4In6() || a.Is4In6() || b.Is4In6() {
			return
		}
		p, err := a.Prefix(bits)
		if err != nil {
			return
		}
		q, _ := b.Prefix(bits)
		r := wire.Route{Subnet: q, As: p}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		routes := NewRoutes([]wire.Route{r})
		got, ok := routes.Translate(c)
		if ok != p.Contains(c) {
			t.Fatalf("%s in %s: %v", c, p, ok)
		}
		if !ok {
			return
		}
		back, _ := wireBack(r).Translate(got)
		if !q.Contains(got) || back != c {
			t.Fatalf("%s by %s became %s, and back %s", c, r, got, back)
		}
	})
}

func wireBack(r wire.Route) *Routes {
	routes := NewRoutes([]wire.Route{{Subnet: r.As, As: r.Subnet}})
	return &routes
}

// FuzzEcho: a reply says what the request did, and nothing that is no request is answered.
func FuzzEcho(f *testing.F) {
	four := echo{src: netip.MustParseAddr("100.64.0.1"), dst: netip.MustParseAddr("10.0.0.1"), id: 7, seq: 9, payload: []byte("abc")}
	six := echo{src: netip.MustParseAddr("fd2d::1"), dst: netip.MustParseAddr("fd00::1"), id: 7, seq: 9, payload: []byte("abcd")}
	for _, e := range []echo{four, six} {
		b := e.reply()
		b[len(b)-len(e.payload)-8] = map[bool]byte{true: 8, false: 128}[e.dst.Is4()]
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parseEcho(b)
		if !ok {
			return
		}
		r := e.reply()
		if _, again := parseEcho(r); again {
			t.Fatal("a reply reads as a request")
		}
		h := 20
		sum := uint32(0)
		if !e.dst.Is4() {
			h = 40
			sum = add(uint32(58+len(r)-40), r[8:40])
		}
		if fold(add(sum, r[h:])) != 0 {
			t.Fatalf("checksum of %x", r)
		}
	})
}

// TestOneSenderLeavesRoom: whoever opens flows without end keeps no other sender out.
func TestOneSenderLeavesRoom(t *testing.T) {
	g := newGateway(t, new(ground))
	g.cfg.Limits.TCP, g.cfg.Limits.UDP = 16, 16
	for _, proto := range []wire.Proto{wire.TCP, wire.UDP} {
		var ends []func()
		greedy := func(from string) {
			for port := range uint16(20) {
				_, end, err := g.begin(flowKey{proto, netip.AddrPortFrom(netip.MustParseAddr(from), port+1), at("192.168.1.9:80")})
				if (err == nil) != (port < 4) {
					t.Errorf("%s: flow %d of %s: %v", proto, port, from, err)
				}
				if err == nil {
					ends = append(ends, end)
				}
			}
		}
		greedy("100.64.0.1")
		greedy("fd2d::1")    // the same system
		greedy("100.64.0.2") // another has its own share
		leave := func() {
			for _, end := range ends {
				end()
			}
			ends = nil
		}
		leave()
		greedy("100.64.0.1")
		ends[0]() // makes room for one
		for port, ok := range []bool{true, false} {
			_, end, err := g.begin(flowKey{proto, netip.AddrPortFrom(netip.MustParseAddr("100.64.0.1"), 99+uint16(port)), at("192.168.1.9:80")})
			if (err == nil) != ok {
				t.Errorf("%s: flow %d after one has ended: %v", proto, port, err)
			}
			if err == nil {
				ends[0] = end
			}
		}
		leave()
	}
	if len(g.taken) != 0 {
		t.Errorf("%d senders are remembered", len(g.taken))
	}
}

// TestAGatewayCarriesNoMoreThanItMay of each protocol, whoever asks; and the same numbers
// again end the flow before, not the one after.
func TestAGatewayCarriesNoMoreThanItMay(t *testing.T) {
	g := newGateway(t, new(ground))
	g.cfg.Limits.TCP, g.cfg.Limits.UDP = 8, 4
	var ends []func()
	for proto, limit := range map[wire.Proto]int{wire.TCP: 8, wire.UDP: 4} {
		for i := range limit + 1 {
			key := flowKey{proto, netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 64, 0, byte(i)}), 1), at("192.168.1.9:80")}
			_, end, err := g.begin(key)
			if i < limit && err != nil || i == limit && !errors.Is(err, errFull) {
				t.Fatalf("%s: flow %d: %v", proto, i, err)
			}
			if err == nil {
				ends = append(ends, end)
			}
		}
	}
	if st := g.Stats(); st.TCP != 8 || st.UDP != 4 || st.Opened != 12 {
		t.Errorf("%+v", st)
	}
	for _, end := range ends {
		end()
	}
	key := flowKey{wire.TCP, at("100.64.0.1:1"), at("192.168.1.9:80")}
	first, endFirst, err := g.begin(key)
	if err != nil {
		t.Fatal(err)
	}
	second, endSecond, err := g.begin(key)
	if err != nil || first.Err() == nil || second.Err() != nil {
		t.Errorf("the same numbers again: %v; the first %v, the second %v", err, first.Err(), second.Err())
	}
	endFirst()
	g.Cut(wire.Flow{Proto: wire.TCP, Src: key.src, Dst: key.dst})
	if second.Err() == nil {
		t.Error("the end of the first took the second out of reach of a cut")
	}
	endSecond()
	if g.Cut(wire.Flow{Proto: wire.TCP, Src: key.src, Dst: key.dst}); len(g.flows) != 0 || len(g.taken) != 0 {
		t.Errorf("%d flows and %d senders are left", len(g.flows), len(g.taken))
	}
	if st := g.Stats(); st.TCP != 0 || st.UDP != 0 {
		t.Errorf("%+v", st)
	}
	g.Close()
	if _, _, err := g.begin(key); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestWhoseAddressesAreTheHosts is asked again after a while: a host gets new ones.
func TestWhoseAddressesAreTheHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &ground{own: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
		g := newGateway(t, n)
		judge := func(a string, ok bool) {
			t.Helper()
			if err := g.judge(netip.MustParseAddr(a)); (err == nil) != ok {
				t.Errorf("%s: %v", a, err)
			}
		}
		judge("10.0.0.1", false)
		judge("10.0.0.2", true)
		judge("203.0.113.7", false) // how else this host is reached
		n.own = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
		time.Sleep(hostAge)
		judge("10.0.0.1", true)
		judge("10.0.0.2", false)
		n.broken = errors.New("no list")
		time.Sleep(hostAge)
		judge("10.0.0.3", false) // who does not know itself reaches nobody
	})
}
