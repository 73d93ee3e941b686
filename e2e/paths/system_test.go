package paths

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"enclave/agent/link"
	"enclave/e2e/natlab"
	lab "enclave/e2e/world"
	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/svid"
)

// system is a link and a WireGuard device on a host, and packets of ours through them.
type system struct {
	w      *world
	name   wire.SystemID
	host   *natlab.Host
	link   *link.Link
	dev    *device.Device
	tap    *tap
	key    disco.PrivateKey // of WireGuard
	keys   link.Peer
	ground *ground
	addr   netip.Addr // on the overlay
	done   chan error

	reach wire.Reach // guarded by world.mu, as known
	known []*system

	routes routeLog
	heard  hearing
}

// kept keeps WireGuard's peers from being collected: it drains their queues in a
// finalizer, which runs outside of the bubble that the queues belong to, and dies.
var kept sync.Map

// system starts one on host.
func (w *world) system(name string, host *natlab.Host, options ...func(*link.Config)) *system {
	o := newOrganisation()
	s := &system{w: w, ground: &ground{lab.Ground{Lab: w.lab, Host: host}}, name: wire.SystemID(name), host: host, key: disco.NewPrivateKey(), done: make(chan error, 1)}
	s.addr = netip.AddrFrom4([4]byte{100, 64, 0, byte(len(w.systems) + 1)})
	secret := disco.NewPrivateKey()
	s.keys = link.Peer{ID: s.name, WireGuard: wire.WireGuardKey(s.key.Public()), Disco: secret.Public()}
	mine := o.svid(svid.System(o.id, s.name))
	if c, err := mine(); err == nil {
		s.keys.SVID = c.Certificate[0]
	}
	cfg := link.Config{
		Streams: link.Streams{
			Server: func() *tls.Config { return svid.ServerConfig(o.trust(), mine, svid.ClientRequired) },
			Client: func(id wire.SystemID) *tls.Config { return svid.ClientConfig(o.trust(), mine, svid.System(o.id, id)) },
		},
		Network: s.ground, Self: s.name, WireGuard: s.keys.WireGuard, Disco: secret,
		Logger: quiet(w.t, name), MTU: 1280,
		TLS: func(id wire.RelayID) *tls.Config {
			return svid.ClientConfig(o.trust(), mine, svid.Relay(o.id, id))
		},
		OnReach: func(r wire.Reach) { s.w.report(s, r) },
		OnRoute: func(p link.PeerStatus) { s.routes.add(p) },
	}
	for _, f := range options {
		f(&cfg)
	}
	var err error
	if s.link, err = link.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	s.link.SetRelays(w.list)
	s.tap = &tap{mtu: 1280, out: make(chan []byte, 64), events: make(chan tun.Event, 1), closed: make(chan struct{}), in: s.receive}
	s.dev = device.NewDevice(s.tap, s.link, device.NewLogger(device.LogLevelSilent, ""))
	s.dev.DisableSomeRoamingForBrokenMobileSemantics()
	if err := s.dev.IpcSet("private_key=" + hex.EncodeToString(s.key[:]) + "\n"); err != nil {
		w.t.Fatal(err)
	}
	if err := s.dev.Up(); err != nil {
		w.t.Fatal(err)
	}
	go func() { s.done <- s.link.Run(w.ctx) }()
	w.systems = append(w.systems, s)
	return s
}

// ground can be taken away from under a link that is kept.
type ground struct{ lab.Ground }

// release lets go of what a kept WireGuard peer would keep: the whole lab.
func (s *system) release() {
	s.ground.Ground = lab.Ground{}
	s.w, s.host, s.known = nil, nil, nil
	s.heard.list, s.routes.list = nil, nil
}

// report is control taking what a system says of itself.
func (w *world) report(s *system, r wire.Reach) {
	time.AfterFunc(controlTakes, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.frozen || w.stopped {
			return
		}
		s.reach = r
		for _, o := range s.known {
			o.tellLocked()
		}
	})
}

// introduce is a policy that has come into force: both hear of it, one a little later.
func (w *world) introduce(a, b *system) {
	for i, s := range []*system{a, b} {
		other := []*system{b, a}[i]
		time.Sleep(time.Duration(i) * controlTakes / 2)
		w.mu.Lock()
		s.known = append(s.known, other)
		s.tellLocked()
		w.mu.Unlock()
		err := s.dev.IpcSet(fmt.Sprintf("public_key=%s\nendpoint=%[1]s\nallowed_ip=%s/32\n",
			hex.EncodeToString(other.keys.WireGuard[:]), other.addr))
		if err != nil {
			w.t.Fatal(err)
		}
		kept.Store(s.dev.LookupPeer(device.NoisePublicKey(other.keys.WireGuard)), true)
	}
}

// tellLocked gives s its peers as control knows them.
func (s *system) tellLocked() {
	var peers []link.Peer
	for _, o := range s.known {
		p := o.keys
		p.Reach, p.Ticket = o.reach, newOrganisation().ticket(s.name, o.name)
		peers = append(peers, p)
	}
	s.link.SetPeers(peers)
}

// route is how s reaches other now.
func (s *system) route(other *system) link.PeerStatus {
	for _, p := range s.link.Status() {
		if p.ID == other.name {
			return p
		}
	}
	return link.PeerStatus{}
}

// direct reports whether both ways are.
func direct(a, b *system) bool {
	return a.route(b).Route.IsDirect() && b.route(a).Route.IsDirect()
}

// routeLog is what OnRoute said, and when.
type routeLog struct {
	mu   sync.Mutex
	list []routeAt
}

type routeAt struct {
	at   time.Time
	peer wire.SystemID
	link.Route
}

func (l *routeLog) add(p link.PeerStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, routeAt{time.Now(), p.ID, p.Route})
}

// count answers how many of the changes since from are of a kind.
func (l *routeLog) count(from time.Time, is func(link.Route) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.list {
		if !r.at.Before(from) && is(r.Route) {
			n++
		}
	}
	return n
}

// send puts a packet with a number into the tunnel; size is of the inner packet.
func (s *system) send(to *system, n uint64, size int) {
	b := make([]byte, max(size, 36))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], s.addr.AsSlice())
	copy(b[16:], to.addr.AsSlice())
	binary.BigEndian.PutUint64(b[20:], n)
	binary.BigEndian.PutUint64(b[28:], uint64(time.Now().UnixNano()))
	select {
	case s.tap.out <- b:
	case <-s.tap.closed:
	}
}

// receive takes an inner packet from WireGuard.
func (s *system) receive(b []byte) {
	if len(b) < 36 {
		return
	}
	s.heard.add(netip.AddrFrom4([4]byte(b[12:])), binary.BigEndian.Uint64(b[20:]), time.Unix(0, int64(binary.BigEndian.Uint64(b[28:]))), len(b))
}

// hearing is what came through the tunnel.
type hearing struct {
	mu   sync.Mutex
	list []arrival
}

type arrival struct {
	from     netip.Addr
	n        uint64
	sent, at time.Time
	size     int
}

func (h *hearing) add(from netip.Addr, n uint64, sent time.Time, size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, arrival{from, n, sent, time.Now(), size})
}

// since answers the arrivals of packets that were sent at or after t.
func (h *hearing) since(t time.Time) (out []arrival) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.list {
		if !a.sent.Before(t) {
			out = append(out, a)
		}
	}
	return out
}

// flow sends small packets at a rhythm until stopped.
type flow struct {
	from, to *system
	sent     atomic.Uint64
	stop     context.CancelFunc
	over     chan struct{}
}

func (s *system) flow(to *system, every time.Duration) *flow {
	ctx, cancel := context.WithCancel(s.w.ctx)
	f := &flow{from: s, to: to, stop: cancel, over: make(chan struct{})}
	go func() {
		defer close(f.over)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			s.send(to, f.sent.Add(1), 64)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return f
}

func (f *flow) end() {
	f.stop()
	<-f.over
}

// gap is the longest time since from in which nothing arrived, until the end of the
// flow or now, and how many packets that were sent in that time never came.
func (f *flow) gap(from time.Time) (longest time.Duration) {
	f.to.heard.mu.Lock()
	defer f.to.heard.mu.Unlock()
	last := from
	for _, a := range f.to.heard.list {
		if a.from != f.from.addr || a.at.Before(from) {
			continue
		}
		longest = max(longest, a.at.Sub(last))
		last = a.at
	}
	return max(longest, time.Since(last))
}

// lost is how many packets of the flow sent in [from, to) never came: the holes between
// the first and the last that did, or all when none did.
func (f *flow) lost(from, to time.Time, every time.Duration) int {
	seen := map[uint64]bool{}
	low, high := ^uint64(0), uint64(0)
	for _, a := range f.to.heard.since(from) {
		if a.from == f.from.addr && a.sent.Before(to) {
			seen[a.n] = true
			low, high = min(low, a.n), max(high, a.n)
		}
	}
	if len(seen) == 0 {
		return int(to.Sub(from) / every)
	}
	return int(high-low) + 1 - len(seen)
}

// until waits for f at most d and reports how long it took.
func (w *world) until(d time.Duration, f func() bool) (time.Duration, bool) {
	begun := time.Now()
	for !f() {
		if time.Since(begun) >= d {
			return d, false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(begun), true
}

// tap is the device's network card.
type tap struct {
	mtu    int
	out    chan []byte // to WireGuard
	in     func([]byte)
	events chan tun.Event
	once   sync.Once
	closed chan struct{}
}

func (t *tap) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case <-t.closed:
		return 0, os.ErrClosed
	case b := <-t.out:
		sizes[0] = copy(bufs[0][offset:], b)
		return 1, nil
	}
}

func (t *tap) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		t.in(b[offset:])
	}
	return len(bufs), nil
}

func (t *tap) File() *os.File           { return nil }
func (t *tap) MTU() (int, error)        { return t.mtu, nil }
func (t *tap) Name() (string, error)    { return "tap", nil }
func (t *tap) Events() <-chan tun.Event { return t.events }
func (t *tap) BatchSize() int           { return 1 }
func (t *tap) Close() error {
	t.once.Do(func() {
		close(t.closed)
		close(t.events)
	})
	return nil
}

var (
	_ tun.Device = (*tap)(nil)
	_            = net.ErrClosed
	_ testing.TB = (*testing.T)(nil)
)
