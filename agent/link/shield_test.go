package link

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"tailscale.com/net/stun"

	"enclave/wire"
	"enclave/wire/disco"
)

// alone is a link that does not run, with one peer whose address is known.
func alone(t testing.TB, candidates int) (l *Link, pair *disco.Pair, at netip.AddrPort) {
	t.Helper()
	ours, theirs := disco.PrivateKey{1}, disco.PrivateKey{2}
	l, err := New(Config{Network: System(), Self: "aaaaa", WireGuard: wire.WireGuardKey{1}, Disco: ours, TLS: func(wire.RelayID) *tls.Config { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	at = netip.MustParseAddrPort("192.0.2.9:4000")
	p := Peer{ID: "bbbbb", WireGuard: wire.WireGuardKey{2}, Disco: theirs.Public()}
	for i := range candidates {
		p.Reach.Candidates = append(p.Reach.Candidates, wire.Candidate{Kind: wire.HostCandidate, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)})
	}
	l.SetPeers([]Peer{p})
	l.table.claim(at, l.table.byWireGuard(p.WireGuard), true)
	return l, disco.NewPair(theirs, ours.Public()), at
}

// FuzzDatagram: whatever arrives on the socket, joined by the kernel or alone, nothing of
// a stranger, or that names no session, reaches the device, and each datagram that does not
// is counted.
func FuzzDatagram(f *testing.F) {
	_, pair, _ := alone(f, 0)
	data := append([]byte{4, 0, 0, 0}, make([]byte, 60)...)
	f.Add(data, 64, true)
	f.Add(append([]byte{4, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 60)...), 68, true)
	f.Add(append(append([]byte{}, data...), data...), 64, false)
	f.Add(append([]byte{1, 0, 0, 0}, make([]byte, 144)...), 148, false)
	f.Add(pair.Seal(nil, disco.Ping{Tx: disco.TxID{1}, WireGuard: wire.WireGuardKey{2}}), 1500, false)
	f.Add(pair.Seal(nil, disco.CallMe{Tx: disco.TxID{2}}), 1500, true)
	f.Add(stun.Request(stun.TxID{1}), 40, false)
	f.Add(stun.Response(stun.TxID{1}, netip.MustParseAddrPort("192.0.2.1:1")), 1500, true)
	f.Add([]byte{}, 1, true)
	f.Fuzz(func(t *testing.T, b []byte, size int, known bool) {
		if len(b) > maxFuzzed || size < 1 {
			return
		}
		l, _, at := alone(t, 0)
		s := &l.peers["bbbbb"].sessions
		s.sent(append([]byte{initiation, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 140)...))
		s.answered(0x01020304)
		if !known {
			at = netip.MustParseAddrPort("198.51.100.1:1")
		}
		const some = 8
		bufs, sizes, eps := make([][]byte, some), make([]int, some), make([]conn.Endpoint, some)
		for i := range bufs {
			bufs[i] = make([]byte, 2048)
		}
		h := held{data: b, size: size, from: at}
		for len(h.data) > 0 {
			before := len(h.data)
			n := l.sortRun(&h, bufs, sizes, eps)
			if len(h.data) >= before {
				t.Fatal("no datagram was taken")
			}
			for i := range n {
				if !known || !isWireGuard(bufs[i][:sizes[i]]) || eps[i] == nil {
					t.Fatalf("%d bytes of %v reach the device", sizes[i], at)
				}
				if bufs[i][0] == initiation || bufs[i][0] != response && indexAt(bufs[i], 4) != 0x01020304 {
					t.Fatalf("% x names no session and reaches the device", bufs[i][:8])
				}
			}
		}
	})
}

// maxFuzzed is what the kernel joins at most.
const maxFuzzed = 1 << 16

// TestFloodIsNoticed: strays at the rate of a scan raise nothing, those of a flood do.
func TestFloodIsNoticed(t *testing.T) {
	s := shield{alarm: make(chan struct{}, 1)}
	for range strayStep - 1 {
		s.stray()
	}
	if len(s.alarm) != 0 {
		t.Error("an alarm before the step")
	}
	s.stray()
	if len(s.alarm) != 1 {
		t.Error("no alarm at the step")
	}
	for range 10 * strayStep { // nobody listens: it must not wait
		s.stray()
	}
}

// TestKnown: the filter has room for what carries data, or there is none.
func TestKnown(t *testing.T) {
	l, _, at := alone(t, 8)
	l.stun.asked = map[stun.TxID]stunQuestion{{1}: {to: netip.MustParseAddrPort("[2001:db8::1]:3478")}}
	known, ok := l.known()
	if !ok || len(known.peers) != 9 || len(known.servers) != 1 || known.servers[0].Addr().Is4() || len(known.probers) != 1 || len(known.indices) != 0 {
		t.Errorf("known %+v, %v; want the address, 8 candidates and the STUN server", known, ok)
	}
	for i := range 2 * maxKnown {
		l.table.claim(netip.AddrPortFrom(at.Addr(), uint16(5000+i)), l.peers["bbbbb"], false)
	}
	if known, ok = l.known(); !ok || len(known.peers) > maxKnown {
		t.Errorf("%d known, %v; want at most %d", len(known.peers), ok, maxKnown)
	}
	now := time.Now()
	for i := range maxKnown + 1 {
		id := wire.SystemID([]byte{'p', '0' + byte(i/100), '0' + byte(i/10%10), '0' + byte(i%10), 'x'})
		p := l.addLocked(now, &Peer{ID: id, WireGuard: wire.WireGuardKey{3, byte(i), byte(i >> 8)}, Disco: wire.DiscoKey{3, byte(i), byte(i >> 8)}})
		p.route.Store(&route{direct: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 9)})
	}
	if _, ok = l.known(); ok {
		t.Error("there is a filter that leaves out peers that carry data")
	}
}
