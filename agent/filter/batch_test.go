package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"enclave/wire"
)

// TestBatchesAreSinglesInARow plays one traffic to two tables, one packet at a time and
// in batches: few ports, so that flows end, come back and push each other out within a
// batch, and the memory of one serves the next.
func TestBatchesAreSinglesInARow(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		pick := func(n int) int { return rnd.IntN(n) }
		var tables [2]*Table
		for i := range tables {
			tables[i] = New(Config{Self: us, Addrs: []netip.Addr{us4}, MaxFlows: 4})
			tables[i].hand = seed
			tables[i].Update([]Peer{{ID: them, Addrs: []netip.Addr{them4}, Grants: []wire.Grant{toUs(wire.TCP, port(80)), fromUs(wire.TCP, port(80)), toUs(wire.UDP, port(53))}}}, "", start)
		}
		now := start
		for range 60 {
			now = now.Add(time.Duration(pick(40)) * time.Second)
			d := direction(pick(2))
			var bufs [][]byte
			var sizes []int
			for range 1 + pick(40) {
				s := spec{proto: protoTCP, src: them4, dst: us4, sport: uint16(1 + pick(6)), dport: 80,
					flags: []uint8{tcpSYN, tcpACK, tcpACK, tcpACK, tcpACK, tcpRST, tcpFIN | tcpACK, tcpSYN | tcpACK}[pick(8)]}
				if pick(8) == 0 {
					s.proto, s.dport = protoUDP, 53
				}
				if d == outbound {
					s.src, s.dst = us4, them4
				}
				if pick(3) == 0 {
					s.sport, s.dport = s.dport, s.sport
				}
				pkt := s.bytes()
				for range 1 + pick(4) {
					bufs, sizes = append(bufs, append([]byte{1, 2}, pkt...)), append(sizes, len(pkt))
				}
			}
			if pick(5) == 0 {
				bufs[0], sizes[0] = bufs[0][:2], 0
			}
			single, batch := make([]Verdict, len(bufs)), make([]Verdict, len(bufs))
			if d == inbound {
				tables[1].InBatch(bufs, 2, now, batch)
			} else {
				tables[1].OutBatch(bufs, sizes, 2, now, batch, nil)
			}
			for i := range bufs {
				single[i] = tables[0].pass(bufs[i][2:], d, now)
			}
			if !reflect.DeepEqual(single, batch) {
				t.Fatalf("seed %d:\nsingle %v\n batch %v", seed, single, batch)
			}
		}
		if a, b := tables[0].Stats(), tables[1].Stats(); a != b {
			t.Fatalf("seed %d: %+v and %+v", seed, a, b)
		}
		if a, b := fmt.Sprint(tables[0].Flows()), fmt.Sprint(tables[1].Flows()); a != b {
			t.Fatalf("seed %d:\n%s\n%s", seed, a, b)
		}
	}
}

func batchOf(pkts [][]byte, n int) [][]byte {
	var bufs [][]byte
	for i := range n {
		bufs = append(bufs, pkts[i%len(pkts)])
	}
	return bufs
}

func TestBatchesDoNotAllocate(t *testing.T) {
	table, pkts := crowd(1000)
	bufs, out := batchOf(pkts, 128), make([]Verdict, 128)
	if n := testing.AllocsPerRun(200, func() { table.InBatch(bufs, 0, start, out) }); n != 0 {
		t.Fatalf("%v allocations a batch", n)
	}
}

// BenchmarkBatch is a bulk transfer, packets of one flow by the batch; one operation is
// one packet.
func BenchmarkBatch(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("grants=%d/flows=%d", n, n), func(b *testing.B) {
			t, pkts := crowd(n)
			ports, pkt := turns(pkts, 1200)
			copy(pkt[20:24], ports[0][:])
			bufs, out := batchOf([][]byte{pkt}, 128), make([]Verdict, 128)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += len(bufs) {
				t.InBatch(bufs, 0, start, out)
			}
		})
	}
}
