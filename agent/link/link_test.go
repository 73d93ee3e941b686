package link

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"enclave/agent/path"
	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/frame"
)

func TestRelayFirstThenDirect(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(2*time.Second, "relayed or direct", func() bool { return w.alice.say("first") })
		took := w.until(5*time.Second, "direct", w.direct)
		t.Logf("direct %v after the first message", took)
		w.alice.mu.Lock()
		routes := slices.Clone(w.alice.routes)
		w.alice.mu.Unlock()
		if len(routes) == 0 || routes[0].IsDirect() {
			t.Errorf("routes %v; want the relay first", routes)
		}
		if !w.alice.say("hello bob") || !w.bob.say("hello alice") {
			t.Error("not heard by the direct path")
		}
		for _, n := range []*node{w.alice, w.bob} {
			if r := n.Reach(); r.NAT != NATEasy || r.Relay != "r1" || len(r.Candidates) != 2 {
				t.Errorf("reach %+v", r)
			}
		}
		res, err := w.alice.Ping(w.t.Context(), "bob00")
		if err != nil || !res.Route.IsDirect() || res.RTT != 20*time.Millisecond {
			t.Errorf("ping %+v, %v; want 20 ms, direct", res, err)
		}
	})
}

func TestHardNATsStayRelayed(t *testing.T) {
	run(t, "hard", "hard", 1, func(w *world) {
		if lost := w.talk(30 * time.Second); lost > 2 {
			t.Errorf("%d messages lost through the relay", lost)
		}
		s := w.alice.status()
		if s.Route != (Route{Relay: "r1"}) || s.Why != path.WhyHardNAT && s.Why != path.WhyProbing {
			t.Errorf("status %+v", s)
		}
		if r := w.alice.Reach(); r.NAT != NATHard || len(r.Candidates) != 5 {
			t.Errorf("reach %+v; want hard, and what the four STUN servers saw", r)
		}
		res, err := w.alice.Ping(w.t.Context(), "bob00")
		if err != nil || res.Route.Relay != "r1" || res.Route.IsDirect() {
			t.Errorf("ping %+v, %v; want by r1", res, err)
		}
	})
}

func TestUDPBlocked(t *testing.T) {
	run(t, "blocked", "easy", 1, func(w *world) {
		w.talk(10 * time.Second)
		if n := w.alice.NetInfo(); n.UDP || n.NAT != NATBlocked || n.Home != "r1" || !n.Relays[0].Connected {
			t.Errorf("netinfo %+v", n)
		}
		if why := w.bob.status().Why; why != path.WhyUDPThere {
			t.Errorf("why %q", why)
		}
		if !w.alice.say("over TLS") {
			t.Error("not heard")
		}
	})
}

func TestDirectLostRelayAtOnceDirectAgain(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		w.talk(5 * time.Second)
		w.lab.mu.Lock()
		w.lab.drop = func(_, _ netip.AddrPort) bool { return true }
		w.lab.mu.Unlock()
		if lost := w.talk(20 * time.Second); lost > 26 { // 10 a second, both ways, for 5 s
			t.Errorf("%d of 100 messages lost when the direct path died", lost)
		}
		if s := w.alice.status(); s.Route.IsDirect() {
			t.Errorf("status %+v", s)
		}
		w.lab.mu.Lock()
		w.lab.drop = nil
		w.lab.mu.Unlock()
		w.talk(70 * time.Second)
		if !w.direct() {
			t.Errorf("not direct again: %+v", w.alice.status())
		}
	})
}

func TestPathFindingWithoutControl(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		w.frozen.Store(true)
		w.alice.ground.move("192.168.7.7", "198.51.100.77")
		w.talk(30 * time.Second)
		if !w.direct() || w.bob.status().Route.Direct.Addr() != netip.MustParseAddr("198.51.100.77") {
			t.Errorf("after a move without control: alice %+v, bob %+v", w.alice.status(), w.bob.status())
		}
	})
}

func TestRemovedPeerIsForgotten(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		ep, err := w.alice.ParseEndpoint(w.bob.keys.WireGuard.String())
		if err != nil {
			t.Fatal(err)
		}
		w.frozen.Store(true)
		w.alice.SetPeers(nil)
		if w.bob.say("to one who forgot") {
			t.Error("accepted from a removed peer")
		}
		// By the relay, as well.
		w.lab.mu.Lock()
		w.lab.drop = func(_, _ netip.AddrPort) bool { return true }
		w.lab.mu.Unlock()
		time.Sleep(10 * time.Second)
		if w.bob.say("by the relay") {
			t.Error("accepted from a removed peer, by the relay")
		}
		d := w.alice.Drops()
		if d.UnknownSource == 0 || d.UnknownKey == 0 || d.UnknownSender == 0 {
			t.Errorf("drops %+v", d)
		}
		before := d.NoRoute
		if err := w.alice.Send([][]byte{message("from one who forgot")}, ep); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if w.bob.heard(message("from one who forgot")) > 0 || w.alice.Drops().NoRoute != before+1 {
			t.Error("sent to a removed peer")
		}
		if _, err := w.alice.ParseEndpoint(w.bob.keys.WireGuard.String()); !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("endpoint of a removed peer: %v", err)
		}
		if _, err := w.alice.Ping(w.t.Context(), "bob00"); !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("ping of a removed peer: %v", err)
		}
	})
}

func TestHostilePackets(t *testing.T) {
	run(t, "easy", "none", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		ours, theirs := w.bob.Link, w.alice.Link
		p := theirs.peers["bob00"]
		ping := p.pair().Seal(nil, disco.Ping{Tx: disco.NewTxID(), WireGuard: theirs.cfg.WireGuard})
		foreign := p.pair().Seal(nil, disco.Ping{Tx: disco.NewTxID(), WireGuard: wire.WireGuardKey{1}})
		pong := p.pair().Seal(nil, disco.Pong{Tx: disco.NewTxID(), Observed: netip.MustParseAddrPort("192.0.2.9:9")})
		call := p.pair().Seal(nil, disco.CallMe{Tx: disco.NewTxID(), Candidates: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:9")}})
		stranger := disco.NewPair(disco.NewPrivateKey(), w.bob.keys.Disco).Seal(nil, disco.Ping{})
		flipped := bytes.Clone(ping)
		flipped[len(flipped)-1] ^= 1
		from := netip.MustParseAddrPort("198.51.100.200:5")
		for _, c := range []struct {
			name  string
			b     []byte
			count func(Drops) uint64
		}{
			{"a stranger's data", message("psst"), func(d Drops) uint64 { return d.UnknownSource }},
			{"empty", nil, func(d Drops) uint64 { return d.Noise }},
			{"one byte", []byte{4}, func(d Drops) uint64 { return d.Noise }},
			{"noise", bytes.Repeat([]byte{0xaa}, 200), func(d Drops) uint64 { return d.Noise }},
			{"a stranger's ping", stranger, func(d Drops) uint64 { return d.UnknownKey }},
			{"a truncated ping", ping[:len(ping)-1], func(d Drops) uint64 { return d.BadDisco }},
			{"a changed ping", flipped, func(d Drops) uint64 { return d.BadDisco }},
			{"a ping for another's key", foreign, func(d Drops) uint64 { return d.BadDisco }},
			{"a pong nobody asked for", pong, func(d Drops) uint64 { return d.Replay }},
			{"a call from outside the relay", call, func(d Drops) uint64 { return d.BadDisco }},
			{"a STUN answer", []byte("\x01\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"), func(d Drops) uint64 { return d.BadSTUN }},
		} {
			before := c.count(ours.Drops())
			if got := ours.sort(c.b, from); got != nil {
				t.Errorf("%s was passed on", c.name)
			}
			if n := c.count(ours.Drops()) - before; n != 1 {
				t.Errorf("%s: counted %d times in %+v", c.name, n, ours.Drops())
			}
		}
		ours.sort(ping, from)
		replays := ours.Drops().Replay
		ours.sort(ping, from)
		if ours.Drops().Replay != replays+1 {
			t.Error("a replayed ping was not counted")
		}
		if ours.sort(message("x"), from) != ours.peers["alice"] {
			t.Error("a pinged address is not the peer's")
		}
		if r := ours.peers["alice"].route.Load(); r.direct == from {
			t.Error("a ping alone moved the route")
		}
		// Another peer's confirmed address cannot be claimed.
		addr := ours.peers["alice"].route.Load().direct
		other := &peer{}
		ours.table.claim(addr, other, false)
		if ours.table.byAddr(addr) == other {
			t.Error("a forged ping took over an address that answered")
		}
		w.talk(2 * time.Second)
		if !w.direct() {
			t.Error("hostile packets cost the path")
		}
	})
}

func TestRelayRestart(t *testing.T) {
	run(t, "hard", "hard", 1, func(w *world) {
		w.until(5*time.Second, "relayed", func() bool { return w.alice.say("first") })
		w.relays["r1"].crash()
		time.Sleep(300 * time.Millisecond)
		w.relays["r1"].up()
		w.until(5*time.Second, "relayed again", func() bool { return w.alice.say("again") })
	})
}

func TestSilentRelayIsLeft(t *testing.T) {
	run(t, "hard", "hard", 2, func(w *world) {
		w.until(5*time.Second, "relayed", func() bool { return w.alice.say("first") })
		home := w.alice.Reach().Relay
		r := w.relays[home]
		r.mu.Lock()
		r.mute = true
		r.mu.Unlock()
		w.lab.mu.Lock()
		delete(r.host.tcp, 443)
		w.lab.mu.Unlock()
		w.talk(10 * time.Second)
		if now := w.alice.Reach().Relay; now == home || now == "" {
			t.Errorf("home is %q; it was %q, which went silent", now, home)
		}
		if !w.alice.say("elsewhere") || !w.bob.say("elsewhere") {
			t.Errorf("not heard by the other relay: alice %+v, bob %+v", w.alice.status(), w.bob.status())
			t.Logf("%+v %+v %+v %+v", w.alice.NetInfo(), w.bob.NetInfo(), w.alice.Drops(), w.bob.Drops())
		}
	})
}

func TestHomesDiffer(t *testing.T) {
	run(t, "hard", "hard", 2, func(w *world) {
		w.until(5*time.Second, "relayed", func() bool { return w.alice.say("first") })
		w.frozen.Store(true)
		w.bob.SetRelays(w.list[1:]) // bob can only use r2
		time.Sleep(5 * time.Second)
		if got := w.bob.Reach().Relay; got != "r2" {
			t.Fatalf("bob's home is %q", got)
		}
		b := w.bob.keys
		b.Reach = w.bob.Reach()
		w.alice.SetPeers([]Peer{b})
		w.until(5*time.Second, "alice by r2", func() bool { return w.alice.say("to r2") })
		if r := w.alice.status().Route.Relay; r != "r2" {
			t.Errorf("alice sends by %q; want the receiver's home", r)
		}
		// Bob does not know r1; his answers take his own home, where alice is.
		if !w.bob.say("back") {
			t.Error("bob was not heard")
		}
		w.talk(3 * time.Minute)
		if !w.alice.NetInfo().Relays[0].Connected {
			t.Error("alice left her home")
		}
		time.Sleep(5 * time.Minute) // nobody talks
		if info := w.alice.NetInfo().Relays; info[1].Connected {
			t.Error("a connection that nobody wants was kept")
		}
		w.until(2*time.Second, "alice by r2 after a pause", func() bool { return w.alice.say("still there?") })
	})
}

func TestTicketRenewal(t *testing.T) {
	run(t, "hard", "hard", 1, func(w *world) {
		w.until(5*time.Second, "relayed", func() bool { return w.alice.say("first") })
		r := w.relays["r1"]
		opens := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.opens }
		w.talk(5 * time.Second)
		before := opens()
		w.talk(5 * time.Second)
		if opens() != before {
			t.Error("the same ticket was presented again")
		}
		w.bob.mu.Lock()
		w.bob.keys.Ticket = []byte("alicebob00 renewed")
		w.bob.mu.Unlock()
		w.introduce(false)
		w.talk(time.Second)
		if opens() != before+1 {
			t.Errorf("%d presentations of a renewed ticket", opens()-before)
		}
		for range 3 { // what the relay has forgotten is presented again
			r.mu.Lock()
			for _, c := range r.conns {
				clear(c.ok)
			}
			r.mu.Unlock()
			w.talk(2 * time.Second)
			if !w.alice.say("after") {
				t.Error("refused for ever")
			}
		}
	})
}

func TestDrainMovesHome(t *testing.T) {
	run(t, "hard", "hard", 2, func(w *world) {
		w.until(5*time.Second, "relayed", func() bool { return w.alice.say("first") })
		home := w.alice.Reach().Relay
		r := w.relays[home]
		r.mu.Lock()
		for _, c := range r.conns {
			c.write(frame.AppendDrain(nil, 10*time.Second))
		}
		r.mu.Unlock()
		if lost := w.talk(15 * time.Second); lost > 0 {
			t.Errorf("%d messages lost while the relay drained", lost)
		}
		if now := w.alice.Reach().Relay; now == home {
			t.Error("home is still the relay that drains")
		}
	})
}

func TestWriteErrorsTakeTheRelay(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		w.lab.mu.Lock()
		w.alice.ground.fail = syscall.ENETUNREACH
		w.lab.mu.Unlock()
		if !w.alice.say("that very message") {
			t.Error("lost, though the relay was there")
		}
		if w.alice.status().Route.IsDirect() || w.alice.Drops().WriteFailed == 0 {
			t.Errorf("status %+v, drops %+v", w.alice.status(), w.alice.Drops())
		}
	})
}

func TestBrokenSocketIsReplaced(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		w.alice.udp.sock.Load().Close()
		w.talk(20 * time.Second)
		if !w.direct() {
			t.Errorf("status %+v", w.alice.status())
		}
	})
}

func TestBindContract(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		if _, _, err := w.alice.Open(0); !errors.Is(err, conn.ErrBindAlreadyOpen) {
			t.Errorf("second Open: %v", err)
		}
		for range 3 { // as device.Up, Down and port changes do
			if err := errors.Join(w.alice.Close(), w.alice.Close()); err != nil {
				t.Fatal(err)
			}
			w.alice.fns.Wait() // every receive function returned net.ErrClosed
			w.until(10*time.Second, "direct without a device", w.direct)
			fns, port, err := w.alice.Open(0)
			if err != nil || port != w.alice.NetInfo().Port {
				t.Fatalf("open: port %d, %v", port, err)
			}
			for _, fn := range fns {
				w.alice.fns.Go(func() { w.alice.receive(fn) })
			}
			if !w.bob.say("after reopening " + time.Now().String()) {
				t.Error("not heard")
			}
		}
		if err := w.alice.Send(nil, &conn.StdNetEndpoint{}); !errors.Is(err, conn.ErrWrongEndpointType) {
			t.Errorf("send to a foreign endpoint: %v", err)
		}
		if err := w.alice.Run(w.t.Context()); !errors.Is(err, ErrRan) {
			t.Errorf("second Run: %v", err)
		}
		for _, s := range []string{"", "zz", "192.0.2.1:51820", string(bytes.Repeat([]byte("0"), 64))} {
			if _, err := w.alice.ParseEndpoint(s); err == nil {
				t.Errorf("ParseEndpoint(%q) found somebody", s)
			}
		}
		ep, _ := w.alice.ParseEndpoint(w.bob.keys.WireGuard.String())
		again, err := w.alice.ParseEndpoint(ep.DstToString())
		if err != nil || again != ep || !ep.DstIP().IsPrivate() || len(ep.DstToBytes()) != 32 {
			t.Errorf("endpoint %v, %v, %v", again, ep.DstIP(), err)
		}
	})
}

func TestKeepsQuietWhenIdle(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		time.Sleep(2 * time.Minute)
		n := 0
		w.lab.mu.Lock()
		w.lab.drop = func(from, _ netip.AddrPort) bool { n++; return false }
		w.lab.mu.Unlock()
		time.Sleep(10 * time.Minute)
		w.lab.mu.Lock()
		perMinute := n / 10
		w.lab.mu.Unlock()
		// A ping and a pong each way every 22 s; four STUN requests and answers of
		// either side every 20 to 27 s; every relay's every 5 minutes.
		if perMinute > 60 {
			t.Errorf("%d datagrams a minute while idle", perMinute)
		}
		if !w.direct() || !w.alice.say("at once") {
			t.Error("the path was not there when it was needed")
		}
	})
}

func TestManyPeers(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		var many []Peer
		for i := range 2000 {
			k := disco.NewPrivateKey().Public()
			many = append(many, Peer{ID: wire.SystemID(wire.NewID(5)), WireGuard: wire.WireGuardKey(k), Disco: k,
				Reach: wire.Reach{Relay: "r1", Candidates: []wire.Candidate{{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 9)}}}})
		}
		b := w.bob.keys
		b.Reach = w.bob.Reach()
		w.alice.SetPeers(append(many, b))
		if !w.alice.say("through the crowd") {
			t.Error("not heard among many")
		}
		time.Sleep(30 * time.Second)
		w.alice.SetPeers([]Peer{b})
		if len(w.alice.table.id) != 1 || len(w.alice.timers) != 1 || len(w.alice.table.wg) != 1 {
			t.Error("removed peers left something behind")
		}
	})
}

func TestConfigNamesEveryMistake(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{"Network", "Self", "WireGuard", "Disco", "TLS"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("%v: does not name %s", err, want)
		}
	}
}

func TestPingEndsWithItsContext(t *testing.T) {
	run(t, "blocked", "blocked", 0, func(w *world) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Second)
		defer cancel()
		if _, err := w.alice.Ping(ctx, "bob00"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ping into the void: %v", err)
		}
		if n := len(w.alice.peers["bob00"].waiting); n != 0 {
			t.Errorf("%d questions left behind", n)
		}
	})
}

// TestPingOfAPeerThatGoes: who is removed while it is asked is unknown from then on.
func TestPingOfAPeerThatGoes(t *testing.T) {
	run(t, "easy", "none", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		w.lab.mu.Lock()
		w.lab.drop = func(_, _ netip.AddrPort) bool { return true }
		w.lab.mu.Unlock()
		gone := time.AfterFunc(1500*time.Millisecond, func() { w.alice.SetPeers(nil) })
		defer gone.Stop()
		if _, err := w.alice.Ping(w.t.Context(), "bob00"); !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("ping of a peer that goes: %v", err)
		}
	})
}
