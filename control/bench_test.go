package control

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire"
)

// benchHub is a hub of n connected systems without a store: half of them developers,
// the others pods, in groups of ten that each have a policy of their own.
func benchHub(b *testing.B, n int) (*hub, []*sender) {
	org := store.Org{ID: "org", Settings: store.DefaultSettings(), Revision: 1,
		IPv4: store.DefaultIPv4(), IPv6: netip.MustParsePrefix("fd00::/48")}
	h := newHub(nil, slog.New(slog.DiscardHandler), &org, newTickets(make([]byte, 64), org.ID, org.Settings.MapLife))
	now := time.Now()
	f := fresh{systems: map[wire.SystemID]*store.System{}, policies: map[wire.PolicyID]*stored{}, relays: []wire.Relay{}, whole: true, revision: 2}
	addr := org.IPv4.Addr()
	var senders []*sender
	for i := range n {
		addr = addr.Next()
		side := []string{"dev", "pod"}[i%2]
		id := wire.SystemID(fmt.Sprintf("s%04d", i))
		f.systems[id] = &store.System{
			ID: id, Name: string(id), Kind: store.General, Approved: true, Enabled: true, IPv4: addr,
			IPv6: netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)}),
			Tags: []wire.Tag{wire.Tag(fmt.Sprintf("%s-%d", side, i/10))}, SVID: [][]byte{make([]byte, 500)},
			Keys: wire.Keys{WireGuard: wire.WireGuardKey{byte(i), byte(i >> 8), 1}, Signature: make([]byte, 64)},
		}
	}
	for g := range n / 10 {
		p := direct(wire.Tag(fmt.Sprintf("dev-%d", g)), wire.Tag(fmt.Sprintf("pod-%d", g)))
		p.ID = wire.PolicyID(fmt.Sprintf("p%d", g))
		f.policies[p.ID] = asStored(p)
	}
	h.apply(f, now)
	for id := range f.systems {
		st := newStream(id, "", now)
		h.nodes[id].stream = st
		s := &sender{hub: h, st: st}
		s.next(now)
		senders = append(senders, s)
	}
	return h, senders
}

func asStored(p wire.Policy) *stored {
	ends, _ := p.Expiry() // of documents with one that can be read
	return &stored{Policy: store.Policy{Policy: p, EndsAt: ends}, served: &p, ends: ends}
}

// BenchmarkPolicyChange switches one policy at 1,000 connected systems and lets every
// stream that was woken compute what it has to say. It reports how many streams spoke
// and how many bytes they sent in all, and fails when anybody else did.
func BenchmarkPolicyChange(b *testing.B) {
	h, senders := benchHub(b, 1000)
	p := direct("dev-7", "pod-7")
	p.ID = "p7"
	now := time.Now()
	var bytes, spoke, turns int
	b.ReportAllocs()
	for b.Loop() {
		p.Enabled = !p.Enabled
		h.mu.Lock()
		h.apply(fresh{revision: h.revision + 1, policies: map[wire.PolicyID]*stored{"p7": asStored(p)}}, now)
		h.mu.Unlock()
		turns++
		for _, s := range senders {
			select {
			case <-s.st.wake:
				if m := s.next(now); m != nil {
					line, _ := json.Marshal(m)
					bytes, spoke = bytes+len(line), spoke+1
				}
			default:
			}
		}
	}
	if spoke != 10*turns {
		b.Fatalf("%d streams spoke in %d changes, want 10 each", spoke, turns)
	}
	b.ReportMetric(float64(bytes)/float64(turns), "B-sent/op")
	b.ReportMetric(float64(spoke)/float64(turns), "streams/op")
}

// BenchmarkFullMap builds the map of a system that is introduced to 1,000 others.
func BenchmarkFullMap(b *testing.B) {
	h, senders := benchHub(b, 1000)
	p := direct("dev-0", "pod-0")
	p.ID = "p0"
	for i := range 100 {
		p.ReceiverTags = append(p.ReceiverTags, wire.Tag(fmt.Sprintf("dev-%d", i)), wire.Tag(fmt.Sprintf("pod-%d", i)))
	}
	p.ReceiverTags = p.ReceiverTags[1:]
	now := time.Now()
	h.mu.Lock()
	h.apply(fresh{revision: 3, policies: map[wire.PolicyID]*stored{"p0": asStored(p)}}, now)
	h.mu.Unlock()
	for _, s := range senders {
		if s.st.id != "s0000" {
			continue
		}
		var last *wire.Map
		b.ReportAllocs()
		for b.Loop() {
			again := &sender{hub: h, st: s.st}
			if last = again.next(now).Map; len(last.Peers) < 999 {
				b.Fatalf("%d peers", len(last.Peers))
			}
		}
		line, _ := json.Marshal(last)
		b.ReportMetric(float64(len(line)), "B-map")
	}
}

var (
	_ admin.Control = (*hub)(nil)
	_ admin.Answers = (*hub)(nil)
)
