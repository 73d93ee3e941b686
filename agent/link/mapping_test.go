package link

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
)

// router is a Mapper that says what it was asked.
type router struct {
	mu       sync.Mutex // guards what follows
	asked    int
	fail     error
	unmapped []netip.AddrPort
}

func (r *router) Map(context.Context, uint16) (Mapping, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return Mapping{Addr: netip.MustParseAddrPort("198.51.100.9:4242"), Lasts: time.Hour, How: "test"}, r.fail
}

func (r *router) Unmap(_ context.Context, _ uint16, m Mapping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unmapped = append(r.unmapped, m.Addr)
}

// TestMappingIsACandidate: what the router opened is told to peers for as long as it
// lasts, renewed at half its life, and given back.
func TestMappingIsACandidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &router{}
		w := &world{t: t, lab: newLab(), relays: map[wire.RelayID]*testRelay{}}
		n := w.node(w.lab.host("192.168.1.10", "198.51.100.1", "hard"), "alice")
		n.cfg.Mapper = r
		n.cfg.OnReach = nil
		ctx, stop := context.WithCancel(t.Context())
		go func() { n.done <- n.Run(ctx) }()
		mapped := func() (found bool) {
			for _, c := range n.Reach().Candidates {
				found = found || c.Kind == wire.MappedCandidate && c.Addr.String() == "198.51.100.9:4242"
			}
			return found
		}
		count := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.asked }
		time.Sleep(time.Second)
		if !mapped() || n.NetInfo().Mapping.How != "test" {
			t.Errorf("candidates %v", n.Reach().Candidates)
		}
		time.Sleep(31 * time.Minute)
		if count() != 2 {
			t.Errorf("asked %d times within half an hour", count())
		}
		r.mu.Lock()
		r.fail = errors.New("the router is gone")
		r.mu.Unlock()
		time.Sleep(45 * time.Minute)
		if !mapped() {
			t.Error("given up before it ended")
		}
		time.Sleep(time.Hour)
		if m := n.NetInfo().Mapping; mapped() || m.Error != "the router is gone" {
			t.Errorf("still %+v after its end", m)
		}
		r.mu.Lock()
		r.fail = nil
		r.mu.Unlock()
		n.networkChanged()
		time.Sleep(time.Second)
		if !mapped() {
			t.Error("another network was not asked")
		}
		stop()
		<-n.done
		if len(r.unmapped) != 1 {
			t.Errorf("given back: %v", r.unmapped)
		}
	})
}
