package portmap

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// pcpRouter speaks PCP (RFC 6887) on loopback. answer may change what it says; nil is
// silence.
type pcpRouter struct {
	mu       sync.Mutex
	external netip.Addr
	mapped   map[uint16]pcpNonce // by internal port
	asked    int
	wished   netip.AddrPort // of the last request
	answer   func(b []byte) [][]byte
}

func newPCPRouter(t *testing.T, external string) *pcpRouter {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: pcpPort})
	if err != nil {
		t.Skipf("the port of PCP is taken: %v", err)
	}
	r := &pcpRouter{external: netip.MustParseAddr(external), mapped: map[uint16]pcpNonce{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, out := range r.serve(b[:n], from) {
				c.WriteToUDPAddrPort(out, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return r
}

func (r *pcpRouter) serve(b []byte, from netip.AddrPort) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(b) < pcpMapLen || b[0] != pcpVersion || b[1] != pcpMap {
		return nil
	}
	r.asked++
	life, port := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint16(b[pcpHead+16:])
	nonce := pcpNonce(b[pcpHead:])
	r.wished = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[pcpHead+20:])).Unmap(), binary.BigEndian.Uint16(b[pcpHead+18:]))
	out := append([]byte(nil), b[:pcpMapLen]...)
	out[1] |= pcpAnswer
	copy(out[8:24], make([]byte, 16)) // epoch and reserved
	binary.BigEndian.PutUint32(out[4:], min(life, 600))
	old, known := r.mapped[port]
	switch {
	case netip.AddrFrom16([16]byte(b[8:24])).Unmap() != from.Addr().Unmap():
		out[3] = 12 // ADDRESS_MISMATCH
	case known && old != nonce:
		out[3] = 2 // NOT_AUTHORIZED
	case life == 0:
		delete(r.mapped, port)
	default:
		r.mapped[port] = nonce
	}
	binary.BigEndian.PutUint16(out[pcpHead+18:], port+7)
	ext := r.external.As16()
	copy(out[pcpHead+20:], ext[:])
	if r.answer != nil {
		return r.answer(out)
	}
	return [][]byte{out}
}

func (r *pcpRouter) ports() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mapped)
}

// requests returns how many came, and what the last of them wished for.
func (r *pcpRouter) requests() (n int, wished netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked, r.wished
}

// answers sets what is sent instead of a good answer. It may read r.asked.
func (r *pcpRouter) answers(with func(good []byte) [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = with
}

func TestPCP(t *testing.T) {
	router := newPCPRouter(t, "203.0.113.9")
	r := &Router{Gateway: loopback}
	for range 2 { // a mapping and its renewal
		m, err := r.Map(t.Context(), 41641)
		if err != nil || m.Addr.String() != "203.0.113.9:41648" || m.Lasts != 10*time.Minute || m.How != "pcp" {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if _, wished := router.requests(); wished.String() != "203.0.113.9:41648" {
		t.Errorf("the renewal asks for %v, not for what it has", wished)
	}
	if _, err := (&Router{Gateway: loopback}).pcp(t.Context(), 41641, life); err == nil {
		t.Error("somebody else was given our mapping")
	}
	m, _ := r.Map(t.Context(), 41641)
	if n := router.ports(); n != 1 {
		t.Errorf("the router has %d ports open", n)
	}
	if r.Unmap(t.Context(), 41641, m); router.ports() != 0 {
		t.Error("not given back")
	}
}

// TestPCPBelievesOnlyItsAnswer: what is forged, cut or refused opens nothing; the true answer
// after it counts.
func TestPCPBelievesOnlyItsAnswer(t *testing.T) {
	router := newPCPRouter(t, "203.0.113.9")
	forged := func(change func(b []byte) []byte) func([]byte) [][]byte {
		return func(b []byte) [][]byte { return [][]byte{change(append([]byte(nil), b...)), b} }
	}
	for name, answer := range map[string]func([]byte) [][]byte{
		"another nonce":   forged(func(b []byte) []byte { b[pcpHead]++; return b }),
		"another port":    forged(func(b []byte) []byte { b[pcpHead+17]++; return b }),
		"TCP":             forged(func(b []byte) []byte { b[pcpHead+12] = 6; return b }),
		"a request":       forged(func(b []byte) []byte { b[1] = pcpMap; return b }),
		"cut":             forged(func(b []byte) []byte { return b[:40] }),
		"not in words":    forged(func(b []byte) []byte { return append(b, 1) }),
		"larger than may": forged(func(b []byte) []byte { return append(b, make([]byte, pcpLongest)...) }),
		"nothing":         forged(func([]byte) []byte { return nil }),
	} {
		router.answers(answer)
		if m, err := (&Router{Gateway: loopback, nonce: pcpNonce{1}}).onlyPCP(t); err != nil || m.Addr.Port() != 41648 {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, answer := range map[string]struct {
		change func(b []byte)
		want   error
	}{
		"no port":        {func(b []byte) { b[pcpHead+18], b[pcpHead+19] = 0, 0 }, errNotGiven},
		"no life":        {func(b []byte) { copy(b[4:8], make([]byte, 4)) }, errNotGiven},
		"a private one":  {func(b []byte) { copy(b[pcpHead+32:], []byte{192, 168, 1, 1}) }, errNested},
		"a carrier's":    {func(b []byte) { copy(b[pcpHead+32:], []byte{100, 64, 1, 1}) }, errNested},
		"an old version": {func(b []byte) { b[0] = 0 }, errNoPCP},
		"unsupported":    {func(b []byte) { b[3] = pcpUnsupported }, errNoPCP},
		"refused":        {func(b []byte) { b[3] = 8 }, nil},
	} {
		router.answers(func(b []byte) [][]byte { answer.change(b); return [][]byte{b} })
		if m, err := (&Router{Gateway: loopback, nonce: pcpNonce{1}}).onlyPCP(t); err == nil || m.Addr.IsValid() || answer.want != nil && !errors.Is(err, answer.want) {
			t.Errorf("%s: %+v, %v; want %v", name, m, err, answer.want)
		}
	}
}

// onlyPCP asks with the nonce that is set.
func (r *Router) onlyPCP(t *testing.T) (m struct{ Addr netip.AddrPort }, err error) {
	r.once.Do(func() {})
	got, err := r.pcp(t.Context(), 41641, life)
	m.Addr = got.Addr
	return m, err
}

func TestPCPBehindACarrier(t *testing.T) {
	router := newPCPRouter(t, "100.64.7.7")
	if m, err := (&Router{Gateway: loopback}).Map(t.Context(), 41641); !errors.Is(err, errNested) || m.Addr.IsValid() {
		t.Errorf("%+v, %v", m, err)
	}
	if n, _ := router.requests(); n != 2 || router.ports() != 0 {
		t.Errorf("asked %d times, %d ports stay open", n, router.ports())
	}
}

func TestPCPIsAskedAgain(t *testing.T) {
	router := newPCPRouter(t, "203.0.113.9")
	router.answers(func(b []byte) [][]byte {
		if router.asked < 3 {
			return nil
		}
		return [][]byte{b}
	})
	if m, err := (&Router{Gateway: loopback}).Map(t.Context(), 41641); err != nil || m.How != "pcp" {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzPCP(f *testing.F) {
	nonce := pcpNonce{1, 2, 3}
	good := appendMap(nil, nonce, netip.MustParseAddr("192.0.2.2"), 41641, netip.MustParseAddrPort("203.0.113.9:41641"), time.Hour)
	good[1] |= pcpAnswer
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte{0, 0x81, 0, 1, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		at, lasts, err := parseMap(b, nonce, 41641)
		if err != nil {
			if at.IsValid() || lasts != 0 {
				t.Fatal("an answer beside an error")
			}
			return
		}
		if len(b) < pcpMapLen || b[3] != 0 || pcpNonce(b[pcpHead:]) != nonce {
			t.Fatal("not the answer to the question")
		}
		if again, _, err := parseMap(b, nonce, 41641); again != at || err != nil {
			t.Fatal("read twice it differs")
		}
	})
}
