package paths

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"enclave/e2e/natlab"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

// rogue is a relay that has turned against its clients. It has what a relay has: their
// connections, every frame, and the name under which each frame is passed on.
type rogue struct {
	w   *world
	rng *rand.Rand

	mu      sync.Mutex // guards rng too
	clients map[frame.ID]*victim
	kept    []keptFrame // what passed, for replays
	counts  map[string]int
	honest  bool
	shunned frame.ID // is not served
}

type keptFrame struct {
	from, to frame.ID
	b        []byte
}

// victim is a client. It is written to by one goroutine: a mutex across a write would
// freeze the bubble.
type victim struct {
	out  chan []byte
	over chan struct{}
}

func (v *victim) run(c net.Conn) {
	defer c.Close()
	for {
		select {
		case b := <-v.out:
			if _, err := c.Write(b); err != nil {
				return
			}
		case <-v.over:
			return
		}
	}
}

func (v *victim) write(b []byte) {
	select {
	case v.out <- b:
	case <-v.over:
	}
}

// turn replaces the honest relay of a station.
func (r *station) turn() *rogue {
	r.kill()
	g := &rogue{w: r.w, rng: rand.New(rand.NewPCG(r.w.lab.Seed(), 3)), clients: map[frame.ID]*victim{}, counts: map[string]int{}}
	l, err := r.host.ListenTCP(443)
	if err != nil {
		r.w.t.Fatal(err)
	}
	cfg := svid.ServerConfig(r.org.trust(), r.org.svid(svid.Relay(r.org.id, r.info.ID)), svid.ClientRequired)
	cfg.NextProtos = []string{frame.ALPN}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(tls.Server(c, cfg))
		}
	}()
	return g
}

func (g *rogue) serve(c *tls.Conn) {
	defer c.Close()
	if c.Handshake() != nil {
		return
	}
	who, err := svid.FromCert(c.ConnectionState().PeerCertificates[0])
	if err != nil {
		return
	}
	me, _ := frame.IDOf(who.SystemID())
	g.mu.Lock()
	shunned := g.shunned == me
	g.mu.Unlock()
	if shunned {
		return
	}
	rd := frame.NewReader(c)
	if t, _, err := rd.Next(); err != nil || t != frame.Hello {
		return
	}
	v := &victim{out: make(chan []byte, 64), over: make(chan struct{})}
	defer close(v.over)
	go v.run(c)
	v.write(frame.AppendHello(nil, frame.Version))
	g.mu.Lock()
	g.clients[me] = v
	g.mu.Unlock()
	for {
		t, body, err := rd.Next()
		if err != nil {
			return
		}
		switch t {
		case frame.Ping:
			v.write(frame.AppendPong(nil, [8]byte(body)))
		case frame.Open: // everybody is always there, it says
			for _, name := range []string{"alice", "bobby", "carol"} {
				if id := idOf(name); id != me {
					v.write(frame.AppendOpened(nil, id, true))
				}
			}
		case frame.Send:
			if to, payload, err := frame.ParsePacket(body); err == nil {
				g.pass(me, to, bytes.Clone(payload))
			}
		}
	}
}

// deliver hands b to the client to, as if from had sent it.
func (g *rogue) deliver(from, to frame.ID, b []byte, what string) {
	g.mu.Lock()
	v := g.clients[to]
	g.counts[what]++
	g.mu.Unlock()
	if v == nil || from == to {
		return
	}
	if f, err := frame.AppendRecv(nil, from, b); err == nil {
		v.write(f)
	}
}

// pass does to one frame what a hostile relay can.
func (g *rogue) pass(from, to frame.ID, b []byte) {
	g.mu.Lock()
	if len(g.kept) < 2000 {
		g.kept = append(g.kept, keptFrame{from, to, b})
	} else {
		g.kept[g.rng.IntN(len(g.kept))] = keptFrame{from, to, b}
	}
	old := g.kept[g.rng.IntN(len(g.kept))]
	dice, flip, pause := g.rng.Float64(), g.rng.IntN(8*len(b)), time.Duration(g.rng.IntN(3000))*time.Millisecond
	var ids []frame.ID
	for id := range g.clients {
		ids = append(ids, id)
	}
	other := ids[g.rng.IntN(len(ids))]
	honest := g.honest
	g.mu.Unlock()
	if honest {
		dice = 1
	}
	switch {
	case dice < .15:
		g.deliver(from, to, nil, "dropped")
		return
	case dice < .30:
		g.deliver(other, to, b, "source forged")
	case dice < .40:
		g.deliver(from, other, b, "receiver forged")
	case dice < .55:
		g.deliver(old.from, old.to, old.b, "replayed")
		g.deliver(old.from, old.to, old.b, "replayed")
	case dice < .70:
		time.AfterFunc(pause, func() { g.deliver(from, to, b, "held back up to 3 s") })
		return
	case dice < .80:
		c := bytes.Clone(b)
		c[flip/8] ^= 1 << (flip % 8)
		g.deliver(from, to, c, "changed")
	}
	g.deliver(from, to, b, "passed")
}

// judge looks at what systems got through the tunnel: every packet must be one that its
// source has sent to it, once.
func (w *world) judge(flows []*flow) (genuine int) {
	for _, s := range w.systems {
		seen := map[string]bool{}
		s.heard.mu.Lock()
		for _, a := range s.heard.list {
			var f *flow
			for _, o := range flows {
				if o.to == s && o.from.addr == a.from {
					f = o
				}
			}
			key := fmt.Sprint(a.from, a.n)
			switch {
			case f == nil || a.n == 0 || a.n > f.sent.Load():
				w.t.Errorf("%s got packet %d from %v, which nobody sent", s.name, a.n, a.from)
			case seen[key]:
				w.t.Errorf("%s got packet %d from %v twice", s.name, a.n, a.from)
			default:
				genuine++
			}
			seen[key] = true
		}
		s.heard.mu.Unlock()
	}
	return genuine
}

// three systems that can only meet at a relay, and flows between all of them.
func (w *world) three(net func() natlab.NATConfig) (flows []*flow) {
	for _, name := range []string{"alice", "bobby", "carol"} {
		w.system(name, w.lab.Host(name, w.lab.Behind(net()), wireLink))
	}
	time.Sleep(5 * time.Second)
	for i, a := range w.systems {
		for _, b := range w.systems[i+1:] {
			w.introduce(a, b)
			flows = append(flows, a.flow(b, 20*time.Millisecond), b.flow(a, 20*time.Millisecond))
		}
	}
	return flows
}

func TestHostileRelay(t *testing.T) {
	t.Logf("seed %d", baseSeed())
	scenario(t, baseSeed(), 1, func(w *world) {
		flows := w.three(natlab.Hard)
		time.Sleep(5 * time.Second)
		g := w.relays[0].turn()
		evil := 5 * time.Minute
		if testing.Short() {
			evil = time.Minute
		}
		time.Sleep(evil)
		g.mu.Lock()
		g.honest = true
		counts := fmt.Sprint(g.counts)
		g.mu.Unlock()
		time.Sleep(10 * time.Second)
		good := w.judge(flows)
		sent := uint64(0)
		for _, f := range flows {
			if f.gap(time.Now().Add(-3*time.Second)) > time.Second {
				w.t.Errorf("%s to %s does not flow although the relay is honest again", f.from.name, f.to.name)
			}
			sent += f.sent.Load()
			f.end()
		}
		t.Logf("of %d packets %d came, each once and from its sender; the relay: %s", sent, good, counts)
	})
}

// forge makes one frame that looks like something a system would take.
func forge(rng *rand.Rand, w *world, kept []keptFrame) []byte {
	b := make([]byte, 32+rng.IntN(200))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	switch kind := rng.IntN(8); kind {
	case 0, 1, 2, 3: // WireGuard by its first bytes: types 1 to 4
		copy(b, []byte{byte(kind + 1), 0, 0, 0})
		if size := map[int]int{0: 148, 1: 92, 2: 64}[kind]; size != 0 {
			b = append(b, make([]byte, 148)...)[:size]
		}
	case 4: // a disco packet from a key that is known
		key := w.systems[rng.IntN(len(w.systems))].keys.Disco
		b = append(append([]byte("\xec\x6e\x63\x6c\x76\x01"), key[:]...), append(b, make([]byte, 40)...)...)
	case 5: // a STUN answer
		copy(b, []byte{1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42})
	case 6, 7: // something real, changed
		if len(kept) > 0 {
			b = bytes.Clone(kept[rng.IntN(len(kept))].b)
			if kind == 6 && len(b) > 0 {
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			}
		}
	}
	return b
}

// TestAMillionForgedFrames pours forgeries on a system: by a relay that lies about who
// sent them, and by datagrams with the source address of a peer.
func TestAMillionForgedFrames(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 50_000
	}
	t.Logf("seed %d", baseSeed())
	t.Run("by relay", func(t *testing.T) {
		scenario(t, baseSeed(), 1, func(w *world) {
			g := w.relays[0].turn()
			g.honest = true
			flows := w.three(natlab.Hard)
			time.Sleep(10 * time.Second)
			rng := rand.New(rand.NewPCG(baseSeed(), 5))
			bob, _ := frame.IDOf("bobby")
			for i := range n {
				from := []frame.ID{idOf("alice"), idOf("carol"), idOf("zzzzz")}[rng.IntN(3)]
				g.mu.Lock()
				b := forge(rng, w, g.kept)
				g.mu.Unlock()
				g.deliver(from, bob, b, "forged")
				if i%500 == 499 {
					time.Sleep(5 * time.Millisecond) // what one connection carries
				}
			}
			w.survived(flows, n)
		})
	})
	t.Run("by datagram", func(t *testing.T) {
		scenario(t, baseSeed(), 1, func(w *world) {
			flows := w.three(natlab.Open)
			if _, ok := w.until(30*time.Second, func() bool { return direct(w.systems[0], w.systems[1]) }); !ok {
				w.t.Fatal("not direct")
			}
			var kept []keptFrame
			stop := w.lab.Tap(func(s natlab.Sight) {
				if len(kept) < 500 && len(s.Packet) > 60 && s.Packet[0] == 0x45 && s.Packet[9] == 17 {
					kept = append(kept, keptFrame{b: bytes.Clone(s.Packet[28:])})
				}
			})
			time.Sleep(5 * time.Second)
			stop()
			mallory := w.lab.Host("mallory", w.lab.Internet())
			rng := rand.New(rand.NewPCG(baseSeed(), 6))
			alice, bob := w.systems[0], w.systems[1]
			to := netip.AddrPortFrom(bob.host.Addrs()[0], bob.link.NetInfo().Port)
			sources := []netip.AddrPort{netip.AddrPortFrom(alice.host.Addrs()[0], alice.link.NetInfo().Port), netip.AddrPortFrom(mallory.Addrs()[0], 9)}
			for i := range n {
				mallory.Inject(datagram(sources[rng.IntN(2)], to, forge(rng, w, kept)))
				if i%200 == 199 {
					time.Sleep(time.Millisecond)
				}
			}
			w.survived(flows, n)
			for _, f := range flows {
				if lost := f.lost(time.Now().Add(-5*time.Second), time.Now().Add(-time.Second), 20*time.Millisecond); lost > 10 {
					w.t.Errorf("%s to %s: %d lost after the flood", f.from.name, f.to.name, lost)
				}
			}
		})
	})
}

// survived checks that nothing forged was delivered and that all flows go on.
func (w *world) survived(flows []*flow, n int) {
	time.Sleep(20 * time.Second)
	good := w.judge(flows)
	for _, f := range flows {
		if f.gap(time.Now().Add(-5*time.Second)) > time.Second {
			w.t.Errorf("%s to %s does not flow any more", f.from.name, f.to.name)
		}
	}
	w.t.Logf("%d forged frames: 0 delivered, %d genuine packets beside them; %+v", n, good, w.systems[1].link.Drops())
	for _, f := range flows {
		f.end()
	}
}

func idOf(name string) frame.ID {
	var id frame.ID
	copy(id[:], name)
	return id
}

// datagram is a UDP packet over IPv4 without a checksum, which RFC 768 permits.
func datagram(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return append(b, payload...)
}
