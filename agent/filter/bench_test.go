package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"enclave/wire"
)

// crowd is a table whose one peer has n grants and n live flows, and the packets
// of those flows.
func crowd(n int) (t *Table, pkts [][]byte) {
	t = New(Config{Self: us, Addrs: []netip.Addr{us4}})
	grants := make([]wire.Grant, n)
	for i := range grants {
		p := uint16(1 + i*(65535/n))
		grants[i] = wire.Grant{From: them, To: us, Proto: wire.TCP, Ports: wire.Ports{port(p)}, Policy: "p", Rule: i}
	}
	t.Update([]Peer{{ID: them, Addrs: []netip.Addr{them4}, Grants: grants}}, "", start)
	for i := range n {
		s := spec{proto: protoTCP, src: them4, dst: us4, sport: 40000 + uint16(i/7), dport: grants[i].Ports[0].Lo, flags: tcpSYN}
		pkts = append(pkts, s.bytes())
		if v := t.In(pkts[i], start); v != Accept {
			panic(v)
		}
	}
	return t, pkts
}

var sizes = []int{10, 1000, 10000}

// turns returns the ports of all flows in random order, and a packet to write them
// into: one buffer, since a real packet has just been decrypted and lies in the
// nearest cache as well.
func turns(pkts [][]byte, payload int) (ports [][4]byte, pkt []byte) {
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(pkts)) {
		ports = append(ports, [4]byte(pkts[i][20:24]))
	}
	return ports, spec{proto: protoTCP, src: them4, dst: us4, flags: tcpACK, payload: make([]byte, payload)}.bytes()
}

// BenchmarkLiveFlow is the common case, a packet of a live flow.
func BenchmarkLiveFlow(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("grants=%d/flows=%d", n, n), func(b *testing.B) {
			t, pkts := crowd(n)
			ports, pkt := turns(pkts, 1200)
			b.ReportAllocs()
			b.ResetTimer()
			for i, k := 0, 0; i < b.N; i++ {
				if k++; k == n {
					k = 0
				}
				copy(pkt[20:24], ports[k][:])
				if t.In(pkt, start) != Accept {
					b.Fatal("dropped")
				}
			}
		})
	}
}

// BenchmarkNewFlow ends a flow and opens it again: two packets, one removal, one
// lookup of the rule and one insertion.
func BenchmarkNewFlow(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("grants=%d/flows=%d", n, n), func(b *testing.B) {
			t, pkts := crowd(n)
			ports, pkt := turns(pkts, 0)
			b.ReportAllocs()
			b.ResetTimer()
			for i, k := 0, 0; i < b.N; i++ {
				if k++; k == n {
					k = 0
				}
				copy(pkt[20:24], ports[k][:])
				pkt[33] = tcpRST
				t.In(pkt, start)
				pkt[33] = tcpSYN
				t.In(pkt, start)
			}
			if got := t.Stats(); got.Flows != n || got.Opened != uint64(n+b.N) {
				b.Fatalf("%+v", got)
			}
		})
	}
}

// BenchmarkRefused is a flood that no rule allows.
func BenchmarkRefused(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("grants=%d/flows=%d", n, n), func(b *testing.B) {
			t, _ := crowd(n)
			pkt := spec{proto: protoUDP, src: them4, dst: us4, dport: 22}.bytes()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				pkt[22], pkt[23] = byte(i>>8), byte(i)
				t.In(pkt, start)
			}
		})
	}
}

// BenchmarkUpdate is the pause that changed rules cost, all flows looked up again.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("grants=%d/flows=%d", n, n), func(b *testing.B) {
			t, _ := crowd(n)
			p := t.byID[them]
			for b.Loop() {
				t.mu.Lock()
				t.renew(p)
				t.recheck("")
				t.mu.Unlock()
			}
		})
	}
}

func TestNoAllocationPerPacket(t *testing.T) {
	table, pkts := crowd(1000)
	now, i := start, 0
	fresh := spec{proto: protoTCP, src: them4, dst: us4, dport: 1, flags: tcpSYN}.bytes()
	refused := spec{proto: protoUDP, src: them4, dst: us4, dport: 22}.bytes()
	pieces := spec{proto: protoTCP, src: them4, dst: us4, sport: 40000, dport: 1, flags: tcpACK, payload: make([]byte, 40)}.pieces(1, 24)
	for name, f := range map[string]func(){
		"live flow": func() { table.In(pkts[i%len(pkts)], now) },
		"new flow": func() {
			fresh[20], fresh[21] = byte(i>>8)&0x3f, byte(i)
			table.In(fresh, now)
			if i%1000 == 0 {
				now = now.Add(3 * time.Minute)
				table.Expire(now)
			}
		},
		"refused": func() { refused[22], refused[23] = byte(i>>8), byte(i); table.In(refused, now) },
		"fragments": func() {
			for _, p := range pieces {
				p[4], p[5] = byte(i>>8), byte(i)
				table.In(p, now)
			}
		},
	} {
		run := func() { i++; f() }
		for range 20000 {
			run()
		}
		if n := testing.AllocsPerRun(20000, run); n != 0 {
			t.Errorf("%s: %v allocations a packet", name, n)
		}
	}
}

// TestFlowsLieOnCacheLines keeps a new field from pushing the ones that every
// packet touches over a line.
func TestFlowsLieOnCacheLines(t *testing.T) {
	var f flow
	if size, hot := unsafe.Sizeof(f), unsafe.Offsetof(f.serial); size != 192 || hot > 128 {
		t.Errorf("%d bytes, %d of them hot: want 192 and at most 128", size, hot)
	}
}
