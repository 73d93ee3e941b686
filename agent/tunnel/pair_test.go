package tunnel

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"enclave/agent/filter"
	"enclave/wire"

	"golang.zx2c4.com/wireguard/conn"
)

// wiring is a network in memory: whoever knows a key reaches its bind.
type wiring struct {
	stacks stacks
	mu     sync.Mutex
	binds  map[string]*memBind // by public key in hex
	chaos  *chaos
	mtu    int // of the nodes; 0 is the default
	lazy   bool
	liar   atomic.Pointer[memEndpoint] // whom it names as the sender of everything; nil is the truth
}

// stacks are what the nodes of a wiring stand on, in turns.
type stacks []Netstack

// onEach runs a test over our stack, over the stock one, and between the two.
func onEach(t *testing.T, test func(t *testing.T, on stacks)) {
	for _, on := range []stacks{{Enclave}, {Stock}, {Enclave, Stock}, {Stock, Enclave}} {
		t.Run(on.String(), func(t *testing.T) { test(t, on) })
	}
}

func (s stacks) String() string {
	var names []string
	for _, n := range s {
		names = append(names, string(n))
	}
	return strings.Join(names, "-")
}

type memPacket struct {
	from memEndpoint
	data []byte
}

// memBind is a conn.Bind that names its peers by key, as the bind of agent/link does.
type memBind struct {
	net  *wiring
	self memEndpoint
	in   chan memPacket
	mu   sync.Mutex
	done chan struct{} // nil while closed
}

type memEndpoint string

func (e memEndpoint) ClearSrc()           {}
func (e memEndpoint) SrcToString() string { return "" }
func (e memEndpoint) DstToString() string { return string(e) }
func (e memEndpoint) DstToBytes() []byte  { return []byte(e) }
func (e memEndpoint) DstIP() netip.Addr   { return netip.Addr{} }
func (e memEndpoint) SrcIP() netip.Addr   { return netip.Addr{} }

func (e memEndpoint) WireGuard() (k wire.WireGuardKey) {
	hex.Decode(k[:], []byte(e))
	return k
}

func (w *wiring) bind(key wire.WireGuardKey) *memBind {
	b := &memBind{net: w, self: memEndpoint(hex.EncodeToString(key[:])), in: make(chan memPacket, 4096)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.binds == nil {
		w.binds = make(map[string]*memBind)
	}
	w.binds[string(b.self)] = b
	return b
}

func (b *memBind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	done := make(chan struct{})
	b.done = done
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		var p memPacket
		select {
		case p = <-b.in:
		case <-done:
			return 0, net.ErrClosed
		}
		for n := 0; ; {
			sizes[n], eps[n] = copy(bufs[n], p.data), p.from
			if n++; n == len(bufs) {
				return n, nil
			}
			select {
			case p = <-b.in:
			default:
				return n, nil
			}
		}
	}}, 1, nil
}

func (b *memBind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done != nil {
		close(b.done)
		b.done = nil
	}
	return nil
}

func (b *memBind) Send(bufs [][]byte, ep conn.Endpoint) error {
	b.net.mu.Lock()
	to := b.net.binds[ep.DstToString()]
	b.net.mu.Unlock()
	if to == nil {
		return errors.New("no such key")
	}
	from := b.self
	if lie := b.net.liar.Load(); lie != nil {
		from = *lie
	}
	for _, buf := range bufs {
		for _, p := range b.net.pass(to, memPacket{from, append([]byte(nil), buf...)}) {
			select {
			case to.in <- p:
			default: // a full socket buffer loses, too
			}
		}
	}
	return nil
}

func (b *memBind) ParseEndpoint(s string) (conn.Endpoint, error) { return memEndpoint(s), nil }
func (b *memBind) SetMark(uint32) error                          { return nil }
func (b *memBind) BatchSize() int                                { return conn.IdealBatchSize }

// switchFilter accepts everything until a test says otherwise, and answers nothing.
type switchFilter struct {
	denyIn, denyOut atomic.Bool
	tap             atomic.Pointer[func(pkt []byte)] // sees what goes out
}

func (f *switchFilter) InBatch(_ [][]byte, _ int, _ time.Time, out []filter.Verdict) {
	for i := range out {
		out[i] = verdict(f.denyIn.Load())
	}
}

func (f *switchFilter) OutBatch(bufs [][]byte, sizes []int, offset int, _ time.Time, out []filter.Verdict, _ []netip.Addr) {
	for i := range out {
		if tap := f.tap.Load(); tap != nil {
			(*tap)(bufs[i][offset : offset+sizes[i]])
		}
		out[i] = verdict(f.denyOut.Load())
	}
}

func (*switchFilter) RejectIn([]byte, filter.Verdict, time.Time) []byte  { return nil }
func (*switchFilter) RejectOut([]byte, filter.Verdict, time.Time) []byte { return nil }

func verdict(deny bool) filter.Verdict {
	if deny {
		return filter.NoRule
	}
	return filter.Accept
}

type node struct {
	*Tunnel
	key    wire.WireGuardKey
	v4, v6 netip.Addr
	filter *switchFilter
}

func (n *node) peer() Peer { return Peer{Key: n.key, Addrs: []netip.Addr{n.v4, n.v6}} }

func (n *node) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(n.v4, port) }

func newNode(t testing.TB, w *wiring, v4, v6 string) *node {
	t.Helper()
	f := new(switchFilter)
	n := newFilteredNode(t, w, v4, v6, f)
	n.filter = f
	return n
}

func newFilteredNode(t testing.TB, w *wiring, v4, v6 string, f Filter) *node {
	t.Helper()
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		key: wire.WireGuardKey(private.PublicKey().Bytes()),
		v4:  netip.MustParseAddr(v4), v6: netip.MustParseAddr(v6),
	}
	bind := w.bind(n.key)
	n.Tunnel, err = New(Config{
		Netstack:   w.stacks[(len(w.binds)-1)%len(w.stacks)],
		Addrs:      []netip.Addr{n.v4, n.v6},
		PrivateKey: [32]byte(private.Bytes()),
		Bind:       bind,
		Filter:     f,
		MTU:        w.mtu,
		Lazy:       w.lazy,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Up(); err != nil {
		t.Fatal(err)
	}
	return n
}

// newPair returns two nodes that know each other.
func newPair(t testing.TB, on stacks) (a, b *node) {
	t.Helper()
	return newPairOn(t, &wiring{stacks: on})
}

func newPairOn(t testing.TB, w *wiring) (a, b *node) {
	t.Helper()
	a = newNode(t, w, "100.64.0.1", "fd7a::1")
	b = newNode(t, w, "100.64.0.2", "fd7a::2")
	for n, other := range map[*node]*node{a: b, b: a} {
		if err := n.SetPeers([]Peer{other.peer()}); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls without sleeping; the wall-clock suite has no other way to see
// that a foreign goroutine came to its end.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// noLeaks fails when goroutines of the data plane outlive the test's cleanups.
func noLeaks(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a wall-clock scenario")
	}
	t.Cleanup(func() {
		buf := make([]byte, 1<<20)
		eventually(t, "the goroutines end", func() bool {
			stacks := string(buf[:runtime.Stack(buf, true)])
			return !strings.Contains(stacks, "golang.zx2c4.com/wireguard") && !strings.Contains(stacks, "gvisor.dev")
		})
	})
}
