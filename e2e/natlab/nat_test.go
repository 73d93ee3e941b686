package natlab

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// world is one host behind one NAT, and two servers with two addresses each.
type world struct {
	lab    *Lab
	router *Router
	inside *Host
	conn   *UDPConn
	// far[address][port] are sockets of one server: two addresses, two ports.
	far [2][2]*UDPConn
}

func newWorld(t *testing.T, lab *Lab, cfg NATConfig) *world {
	t.Helper()
	w := &world{lab: lab, router: lab.Router("nat", lab.Internet(), cfg)}
	w.inside = lab.Host("inside", w.router.LAN())
	w.conn = listen(t, w.inside, 4000)
	server := lab.Host("server", lab.Internet(), Addresses(2))
	for i, a := range server.Addrs() {
		for j := range 2 {
			c, err := server.ListenUDPAddrPort(netip.AddrPortFrom(a, uint16(100+j)))
			if err != nil {
				t.Fatal(err)
			}
			w.far[i][j] = c
		}
	}
	return w
}

// mapped sends from the inside to far[i][j] and answers the endpoint seen there.
func (w *world) mapped(t *testing.T, i, j int) netip.AddrPort {
	t.Helper()
	text := fmt.Sprint("out", i, j, time.Now().UnixNano())
	send(t, w.conn, w.far[i][j].LocalAddrPort(), text)
	return mustReceive(t, w.far[i][j], text)
}

// letsIn reports whether far[i][j] reaches the inside through the endpoint to.
func (w *world) letsIn(t *testing.T, i, j int, to netip.AddrPort) bool {
	t.Helper()
	send(t, w.far[i][j], to, "in")
	_, from, err := receive(w.conn)
	if err == nil && from != w.far[i][j].LocalAddrPort() {
		t.Errorf("came from %v", from)
	}
	return err == nil
}

// TestMappingAndFiltering is RFC 4787 REQ-1 and REQ-8 for all nine kinds of NAT.
func TestMappingAndFiltering(t *testing.T) {
	for _, m := range behaviours {
		for _, f := range behaviours {
			for _, ports := range []PortAllocation{PortPreserving, PortSequential, PortRandom} {
				synctest.Test(t, func(t *testing.T) {
					lab := New(Config{Seed: 2}).Start()
					defer lab.Close()
					w := newWorld(t, lab, NATConfig{Mapping: m, Filtering: f, Ports: ports})
					name := fmt.Sprintf("%v/%v/%d", m, f, ports)
					first := w.mapped(t, 0, 0)
					if first.Addr() != w.router.Addrs()[0] {
						t.Fatalf("%s: mapped to %v", name, first)
					}
					// Filtering first: afterwards more remotes have been sent to.
					for _, c := range []struct {
						i, j int
						want bool
					}{
						{0, 0, true},
						{0, 1, f != AddressAndPortDependent},
						{1, 0, f == EndpointIndependent},
					} {
						if got := w.letsIn(t, c.i, c.j, first); got != c.want {
							t.Errorf("%s: from address %d port %d let in: %v", name, c.i, c.j, got)
						}
					}
					if got, want := w.mapped(t, 0, 1) == first, m != AddressAndPortDependent; got != want {
						t.Errorf("%s: other port has the same mapping: %v", name, got)
					}
					if got, want := w.mapped(t, 1, 0) == first, m == EndpointIndependent; got != want {
						t.Errorf("%s: other address has the same mapping: %v", name, got)
					}
					if got := w.mapped(t, 0, 0); got != first {
						t.Errorf("%s: mapping moved from %v to %v", name, first, got)
					}
					if ports == PortPreserving && first.Port() != 4000 {
						t.Errorf("%s: port not preserved: %v", name, first)
					}
				})
			}
		}
	}
}

func TestMappingTimesOut(t *testing.T) {
	for _, refresh := range []bool{false, true} {
		bubble(t, func(t *testing.T, lab *Lab) {
			w := newWorld(t, lab, NATConfig{UDPTimeout: time.Hour, InboundRefresh: refresh, Ports: PortRandom})
			first := w.mapped(t, 0, 0)
			time.Sleep(time.Hour - time.Minute)
			if !w.letsIn(t, 0, 0, first) {
				t.Error("gone before its time")
			}
			time.Sleep(30 * time.Minute)
			if got := w.letsIn(t, 0, 0, first); got != refresh {
				t.Errorf("inbound refresh %v: alive %v", refresh, got)
			}
			w.mapped(t, 0, 0) // REQ-6: outbound always renews
			time.Sleep(59 * time.Minute)
			second := w.mapped(t, 0, 0)
			if refresh != (second == first) {
				t.Errorf("refresh %v: first %v, second %v", refresh, first, second)
			}
			time.Sleep(time.Hour)
			if w.letsIn(t, 0, 0, second) {
				t.Error("alive after its time")
			}
		})
	}
}

func TestFilterForgetsRemotes(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		w := newWorld(t, lab, Easy())
		first := w.mapped(t, 0, 0)
		for range 10 { // keeps the mapping, not the permission of the first remote
			time.Sleep(time.Minute)
			w.mapped(t, 1, 0)
		}
		if w.letsIn(t, 0, 0, first) {
			t.Error("a remote that was silent for 10 minutes got in")
		}
	})
}

func TestHairpin(t *testing.T) {
	for _, on := range []bool{false, true} {
		bubble(t, func(t *testing.T, lab *Lab) {
			w := newWorld(t, lab, NATConfig{Hairpin: on, Filtering: AddressAndPortDependent})
			other := listen(t, lab.Host("other", w.router.LAN()), 5000)
			mine := w.mapped(t, 0, 0)
			send(t, other, w.far[0][0].LocalAddrPort(), "other")
			theirs := mustReceive(t, w.far[0][0], "other")
			send(t, other, mine, "open the filter")
			mustNotReceive(t, w.conn)
			send(t, w.conn, theirs, "hairpin")
			if !on {
				mustNotReceive(t, other)
				return
			}
			// REQ-9: the receiver sees the outside endpoint.
			if from := mustReceive(t, other, "hairpin"); from != mine {
				t.Errorf("hairpinned from %v, want %v", from, mine)
			}
		})
	}
}

func TestRebindAndReboot(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		w := newWorld(t, lab, Easy())
		first := w.mapped(t, 0, 0)
		w.router.Rebind()
		if w.letsIn(t, 0, 0, first) {
			t.Error("a lost mapping let something in")
		}
		second := w.mapped(t, 0, 0)
		if second == first {
			t.Error("rebinding gave the old port back")
		}
		w.router.Reboot(time.Minute)
		send(t, w.conn, w.far[0][0].LocalAddrPort(), "lost")
		mustNotReceive(t, w.far[0][0])
		time.Sleep(time.Minute)
		if third := w.mapped(t, 0, 0); third.Port() != 4000 {
			t.Errorf("after a reboot the port is %v", third)
		}
	})
}

func TestPortForward(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		w := newWorld(t, lab, Hard())
		w.router.Forward("udp", 53, w.inside, 4000)
		outside := netip.AddrPortFrom(w.router.Addrs()[0], 53)
		if !w.letsIn(t, 1, 1, outside) {
			t.Error("nothing came through the forwarded port")
		}
		if got := w.mapped(t, 1, 1); got != outside {
			t.Errorf("answered from %v", got)
		}
	})
}

func TestBlockedUDP(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		w := newWorld(t, lab, UDPBlocked())
		send(t, w.conn, w.far[0][0].LocalAddrPort(), "blocked")
		mustNotReceive(t, w.far[0][0])
	})
}

func TestMappingsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		cfg := Hard()
		cfg.MaxMappings = 8
		w := newWorld(t, lab, cfg)
		far := w.far[0][0].LocalAddrPort()
		for port := range uint16(100) {
			send(t, w.conn, netip.AddrPortFrom(far.Addr(), 1000+port), "scan")
		}
		if n := w.router.Mappings(); n != 8 {
			t.Errorf("%d mappings", n)
		}
		if lab.Drops()[DropNATFull] != 92 {
			t.Errorf("drops %v", lab.Drops())
		}
		time.Sleep(time.Minute)
		w.mapped(t, 0, 0)
	})
}

func TestDeadMappingsAreSwept(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		w := newWorld(t, lab, Hard())
		w.mapped(t, 0, 0)
		w.mapped(t, 0, 1)
		time.Sleep(time.Hour)
		w.mapped(t, 1, 0)
		if n := w.router.Mappings(); n != 1 {
			t.Errorf("%d mappings after an hour of silence", n)
		}
	})
}

func TestCarrierGradeNAT(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		carrier := lab.Router("carrier", lab.Internet(), CGNAT())
		server := listen(t, lab.Host("server", lab.Internet()), 7)
		var conns []*UDPConn
		var outside []netip.AddrPort
		for _, name := range []string{"home1", "home2"} {
			home := lab.Router(name, carrier.LAN(), Easy())
			c := listen(t, lab.Host("host of "+name, home.LAN()), 4000)
			send(t, c, at(server.host, 7), name)
			from := mustReceive(t, server, name)
			if from.Addr() != carrier.Addrs()[0] && from.Addr() != carrier.Addrs()[1] {
				t.Errorf("%s seen as %v", name, from)
			}
			send(t, server, from, "back")
			mustReceive(t, c, "back")
			conns, outside = append(conns, c), append(outside, from)
		}
		if outside[0].Addr() == outside[1].Addr() {
			t.Error("the carrier uses one of its two addresses")
		}
		// Two homes of one carrier meet at its outside, because it hairpins.
		send(t, conns[0], outside[1], "open")
		mustNotReceive(t, conns[1])
		send(t, conns[1], outside[0], "neighbour")
		mustReceive(t, conns[0], "neighbour")
	})
}

func TestFirewall(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		cfg := Firewall()
		cfg.IPv6 = true
		office := lab.Host("office", lab.Router("fw", lab.Internet(), cfg).LAN())
		self := lab.Host("self", lab.Internet(), Firewalled(), DualStack())
		out := lab.Host("out", lab.Internet(), DualStack())
		co := listen(t, out, 7)
		for _, h := range []*Host{office, self} {
			c := listen(t, h, 4000)
			for i := range 2 {
				end := netip.AddrPortFrom(h.Addrs()[i], 4000)
				send(t, co, end, "unsolicited")
				mustNotReceive(t, c)
				send(t, c, netip.AddrPortFrom(out.Addrs()[i], 7), "out")
				if from := mustReceive(t, co, "out"); from != end {
					t.Errorf("%s: translated %v to %v", h, end, from)
				}
				send(t, co, end, "answer")
				mustReceive(t, c, "answer")
			}
		}
	})
}

// TestICMPErrors: an error about a translated packet reaches the sender with the
// addresses that the sender used, in both directions.
func TestICMPErrors(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		w := newWorld(t, lab, NATConfig{})
		w.mapped(t, 0, 0)
		var quotes []string
		lab.Tap(func(s Sight) {
			var v, inner view
			if s.Way == Inbound && s.Drop == Passed && parse(s.Packet, &v) && v.icmp == icmpError {
				if !v.transportSumOK(s.Packet) || !parseIP(s.Packet[v.l4+8:v.end], &inner, true) {
					t.Error("a damaged error")
				}
				quotes = append(quotes, fmt.Sprint(s.Node, " ", inner.from(), " ", inner.to()))
			}
		})
		far := w.far[0][0].LocalAddrPort()
		closed := netip.AddrPortFrom(far.Addr(), 9)
		send(t, w.conn, closed, "nobody there")
		outside := netip.AddrPortFrom(w.router.Addrs()[0], 4000)
		inside := w.conn.host.Addrs()[0]
		w.conn.Close()
		send(t, w.far[0][0], outside, "gone meanwhile")
		synctest.Wait()
		want := []string{
			fmt.Sprint("nat ", outside, " ", closed),
			fmt.Sprint("inside ", netip.AddrPortFrom(inside, 4000), " ", closed),
			fmt.Sprint("server ", far, " ", outside),
		}
		if fmt.Sprint(quotes) != fmt.Sprint(want) {
			t.Errorf("quotes\n%v, want\n%v", quotes, want)
		}
	})
}

// TestTCPTimeouts walks the state of one connection (RFC 5382, REQ-5).
func TestTCPTimeouts(t *testing.T) {
	syn, ack, fin, rst := uint8(tcpSYN), uint8(tcpACK), uint8(tcpFIN|tcpACK), uint8(tcpRST)
	type step struct {
		flags   uint8
		outward bool
	}
	const long, short = 2*time.Hour + 4*time.Minute, 4 * time.Minute
	for _, c := range []struct {
		name  string
		steps []step
		want  time.Duration
	}{
		{"opening", []step{{syn, true}}, short},
		{"open", []step{{syn, true}, {syn | ack, false}, {ack, true}}, long},
		{"half closed", []step{{syn, true}, {syn | ack, false}, {fin, true}}, long},
		{"closed", []step{{syn, true}, {syn | ack, false}, {fin, true}, {fin, false}}, short},
		{"reset", []step{{syn, true}, {syn | ack, false}, {rst, false}}, short},
		{"open again", []step{{syn, true}, {syn | ack, false}, {rst, false}, {syn, true}, {syn | ack, false}}, long},
	} {
		n := newNAT(NATConfig{Filtering: AddressAndPortDependent}, nil, []netip.Addr{netip.MustParseAddr("203.0.113.1")})
		now := time.Unix(0, 0)
		inside, remote := netip.MustParseAddrPort("192.168.0.2:99"), netip.MustParseAddrPort("198.51.100.1:80")
		var m *mapping
		for _, s := range c.steps {
			m, _ = n.obtain(now, protoTCP, inside, remote)
			n.touch(now, m, remote, &view{proto: protoTCP, flags: s.flags}, s.outward)
		}
		if got := m.expires.Sub(now); got != c.want {
			t.Errorf("%s: lives %v, want %v", c.name, got, c.want)
		}
	}
}

// TestStrangersLeaveNoState: whoever an open filter lets in must not fill the table.
func TestStrangersLeaveNoState(t *testing.T) {
	n := newNAT(FullCone(), nil, []netip.Addr{fuzzOutside})
	now := time.Unix(1000, 0)
	pass := func(f func(time.Time, []byte, *view) Drop, from, to netip.AddrPort) Drop {
		var v view
		b := appendUDP(nil, from, to, nil)
		parse(b, &v)
		return f(now, b, &v)
	}
	pass(n.out, fuzzInside, fuzzRemote)
	for port := range uint16(2 * maxSessions) {
		stranger := netip.AddrPortFrom(fuzzRemote.Addr(), 1000+port)
		if why := pass(n.in, stranger, netip.AddrPortFrom(fuzzOutside, fuzzInside.Port())); why != Passed {
			t.Fatalf("stranger %d: %v", port, why)
		}
	}
	if why := pass(n.out, fuzzInside, netip.AddrPortFrom(fuzzRemote.Addr(), 9)); why != Passed {
		t.Errorf("after %d strangers the host itself: %v", 2*maxSessions, why)
	}
}
