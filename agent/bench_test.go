package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"enclave/agent/link"
	"enclave/wire"
)

// BenchmarkIdlePeers says what the data plane needs for a peer that may talk and does
// not, in bytes of heap and stacks, beside what its map holds of it.
func BenchmarkIdlePeers(b *testing.B) {
	const peers = 1000
	now := time.Now()
	o := newOrg(b, now)
	m := mapOf(1, time.Time{})
	for i := range peers {
		p := o.peer(wire.SystemID(fmt.Sprintf("b%04d", i)), 0, now, always)
		p.IPv4 = netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)})
		p.IPv6 = netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		p.Reach = wire.Reach{Candidates: []wire.Candidate{{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)}}}
		m.Peers = append(m.Peers, p)
	}
	for b.Loop() {
		keeper := new(MemoryKeeper)
		if err := o.enrolled(now).save(keeper); err != nil {
			b.Fatal(err)
		}
		a, err := New(Config{Name: "me", Control: "https://control.test", Fingerprint: o.ca.Fingerprint(), Keeper: keeper,
			Network: link.System(), Key: func() (string, error) { return "secret", nil }, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		p, err := a.open()
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error)
		go func() { ended <- p.link.Run(ctx) }()
		apply := func(peers []wire.Peer) time.Duration {
			start := time.Now()
			if err := p.apply(&m, peers, "bench", now, now); err != nil {
				b.Fatal(err)
			}
			return time.Since(start)
		}
		apply(m.Peers[:1])
		before := inUse()
		took := apply(m.Peers)
		b.ReportMetric(float64(inUse()-before)/(peers-1), "B/peer")
		b.ReportMetric(float64(took.Microseconds())/(peers-1), "us/peer")
		p.closeOverlay()
		cancel()
		<-ended
	}
}

// inUse is what heap and stacks hold after a collection, in bytes.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc + s.StackInuse)
}
