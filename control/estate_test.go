package control

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"enclave/control/policy/estate"
	"enclave/store"
	"enclave/wire"
)

// office is a hub of an estate in which everybody is connected.
type office struct {
	*hub
	systems []store.System
	docs    []wire.Policy
	senders map[wire.SystemID]*sender
	now     time.Time
}

// newOffice compiles an estate from nothing, up to the first map of everybody.
func newOffice(systems int) *office {
	org := store.Org{ID: "org", Settings: store.DefaultSettings(), Revision: 1,
		IPv4: store.DefaultIPv4(), IPv6: netip.MustParsePrefix("fd00::/48")}
	h := newHub(nil, slog.New(slog.DiscardHandler), &org, newTickets(make([]byte, 64), org.ID, org.Settings.MapLife))
	o := &office{hub: h, senders: make(map[wire.SystemID]*sender, systems), now: estate.Workday()}
	ss, docs := estate.New(systems, 1_000)
	o.docs = docs
	f := fresh{systems: make(map[wire.SystemID]*store.System), policies: make(map[wire.PolicyID]*stored), relays: []wire.Relay{}, whole: true, revision: 2}
	for i, s := range ss {
		o.systems = append(o.systems, store.System{ID: s.ID, Name: "n" + string(s.ID), Kind: store.General, Approved: true, Enabled: true,
			IPv4: s.Addr, IPv6: netip.AddrFrom16([16]byte{0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}), Tags: s.Tags,
			SVID: [][]byte{make([]byte, 500)}, Keys: wire.Keys{WireGuard: wire.WireGuardKey{byte(i), byte(i >> 8), byte(i >> 16), 1}, Signature: make([]byte, 64)}})
	}
	for i := range o.systems {
		f.systems[o.systems[i].ID] = &o.systems[i]
	}
	for _, p := range docs {
		f.policies[p.ID] = asStored(p)
	}
	h.mu.Lock()
	h.apply(f, o.now)
	for id, n := range h.nodes {
		st := newStream(id, "192.0.2.1:1", o.now)
		h.join(n, st)
		o.senders[id] = &sender{hub: h, st: st}
	}
	h.mu.Unlock()
	for _, s := range o.senders {
		o.tell(s)
	}
	return o
}

// tell makes what is to be said to a stream.
func (o *office) tell(s *sender) *wire.Message {
	m := s.next(o.now)
	select {
	case <-s.st.wake:
	default:
	}
	o.sent(s.st, s.told.Revision(), s.told.Revision())
	o.heard(s.st.id, &wire.Report{Applied: s.told.Revision()}, o.now)
	return m
}

// change puts something into effect and makes what is to be said for it, and returns how
// many bytes that is, of how many streams.
func (o *office) change(b *testing.B, f fresh) (bytes, streams int) {
	o.mu.Lock()
	f.revision = o.revision + 1
	o.apply(f, o.now)
	late := make([]*sender, 0, len(o.late))
	for n := range o.late {
		late = append(late, o.senders[n.sys.ID])
	}
	o.mu.Unlock()
	for _, s := range late {
		if m := o.tell(s); m != nil {
			line, err := json.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			bytes, streams = bytes+len(line), streams+1
		}
	}
	if st := o.Status(0); !st.Applied {
		b.Fatalf("%d still wait", len(st.Waiting))
	}
	return bytes, streams
}

// bytesHeld is the live heap.
func bytesHeld() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkEstate measures the control plane at work, everybody connected: from what
// the store says to the encoded deltas, and their acknowledgements.
func BenchmarkEstate(b *testing.B) {
	for _, systems := range []int{1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("systems=%d", systems), func(b *testing.B) {
			var o *office
			b.Run("compile", func(b *testing.B) {
				b.ReportAllocs()
				var held float64
				for b.Loop() {
					o = nil
					b.StopTimer()
					before := bytesHeld()
					b.StartTimer()
					o = newOffice(systems)
					b.StopTimer()
					held = bytesHeld() - before
					b.StartTimer()
				}
				b.ReportMetric(held/1e6, "MB-held")
			})
			if o == nil {
				o = newOffice(systems)
			}
			run := func(name string, change func(n int) fresh) {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					n, bytes, streams := 0, 0, 0
					for b.Loop() {
						more, spoke := o.change(b, change(n))
						n, bytes, streams = n+1, bytes+more, streams+spoke
					}
					b.ReportMetric(float64(bytes)/float64(n), "B-sent/op")
					b.ReportMetric(float64(streams)/float64(n), "streams/op")
					if n%2 == 1 {
						o.change(b, change(n)) // and back
					}
				})
			}
			run("policy", func(n int) fresh {
				p := o.docs[estate.Broad+n/2%(len(o.docs)-estate.Broad)]
				p.Enabled = n%2 == 1
				return fresh{policies: map[wire.PolicyID]*stored{p.ID: asStored(p)}}
			})
			run("tag", func(n int) fresh {
				s := o.systems[n/2%len(o.systems)]
				if n%2 == 0 && !slices.Contains(s.Tags, "team07") {
					s.Tags = append(slices.Clone(s.Tags), "team07")
				}
				return fresh{systems: map[wire.SystemID]*store.System{s.ID: &s}}
			})
			b.Run("reach", func(b *testing.B) {
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					o.heard(o.systems[n/2%len(o.systems)].ID, &wire.Report{Reach: &wire.Reach{NAT: []string{"easy", "hard"}[n%2]}}, o.now)
					n++
				}
			})
			b.Run("explain", func(b *testing.B) {
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					from, to := &o.systems[n*37%len(o.systems)], &o.systems[(n*101+1)%len(o.systems)]
					o.Explain(from.IPv4, to.IPv4, wire.TCP, 80, o.now)
					n++
				}
			})
		})
	}
}
