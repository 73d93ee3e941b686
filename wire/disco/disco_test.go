package disco

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"tailscale.com/net/stun"

	"enclave/wire"
)

func pairs() (a, b *Pair) {
	ka, kb := NewPrivateKey(), NewPrivateKey()
	return NewPair(ka, kb.Public()), NewPair(kb, ka.Public())
}

func messages() []Message {
	full := CallMe{Tx: TxID{9}, Candidates: []netip.AddrPort{}}
	for i := range wire.MaxCandidates {
		full.Candidates = append(full.Candidates, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 1))
	}
	return []Message{
		Ping{Tx: TxID{1, 2, 3}, WireGuard: wire.WireGuardKey{4, 5, 6}},
		Pong{TxID{7}, netip.MustParseAddrPort("203.0.113.9:41641")},
		Pong{TxID{8}, netip.MustParseAddrPort("[2001:db8::1]:65535")},
		Pong{TxID{8}, netip.AddrPort{}},
		CallMe{TxID{10}, []netip.AddrPort{}},
		full,
	}
}

func TestSealOpen(t *testing.T) {
	a, b := pairs()
	for _, m := range messages() {
		p := a.Seal([]byte("before"), m)[len("before"):]
		if !LooksLike(p) || len(p) > MaxPacket {
			t.Errorf("%T: %d bytes, looks like disco: %v", m, len(p), LooksLike(p))
		}
		if k, ok := Sender(p); !ok || k != a.self {
			t.Errorf("%T: sender %v, %v", m, k, ok)
		}
		got, err := b.Open(p)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: opened %+v, %v; want %+v", m, got, err, m)
		}
		if _, err := a.Open(p); !errors.Is(err, ErrBox) {
			t.Errorf("%T: thrown back at its sender: %v; want %v", m, err, ErrBox)
		}
	}
}

// TestNothingIsSealedTwiceAlike: a nonce that came twice would give both texts away, and a
// transaction that can be guessed a pong without its ping.
func TestNothingIsSealedTwiceAlike(t *testing.T) {
	a, _ := pairs()
	nonces, txs := make(map[string]bool), make(map[TxID]bool)
	for range 8 {
		nonces[string(a.Seal(nil, Ping{})[headerLen-nonceLen:headerLen])], txs[NewTxID()] = true, true
	}
	if len(nonces) != 8 || len(txs) != 8 {
		t.Errorf("8 packets with %d nonces, 8 transactions of %d kinds", len(nonces), len(txs))
	}
	if a.self == (wire.DiscoKey{}) || a.shared == ([32]byte{}) {
		t.Error("a key of zeros")
	}
}

// TestWhoseIsAskedOfPacketsOnly: nobody is looked up for what no system sends.
func TestWhoseIsAskedOfPacketsOnly(t *testing.T) {
	a, _ := pairs()
	p := a.Seal(nil, Ping{})
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"whole":         {p, true},
		"the least":     {p[:MinPacket], true},
		"cut":           {p[:MinPacket-1], false},
		"magic alone":   {[]byte(magic), false},
		"the largest":   {append(bytes.Clone(p), make([]byte, MaxPadded-len(p))...), true},
		"one byte more": {append(bytes.Clone(p), make([]byte, MaxPadded-len(p)+1)...), false},
	} {
		if _, ok := Sender(c.b); ok != c.ok {
			t.Errorf("%s: %t", name, ok)
		}
	}
	if Sendable(netip.AddrPortFrom(netip.Addr{}, 1)) {
		t.Error("a packet for no address")
	}
}

func TestEveryBitIsAuthenticated(t *testing.T) {
	a, b := pairs()
	p := a.Seal(nil, Ping{Tx: NewTxID()})
	for i := range len(p) * 8 {
		if i/8 >= len(magic) && i/8 < len(magic)+32 {
			continue // the sender's key chooses the pair; another key is another pair
		}
		q := bytes.Clone(p)
		q[i/8] ^= 1 << (i % 8)
		if m, err := b.Open(q); err == nil {
			t.Errorf("bit %d flipped: opened %+v", i, m)
		}
	}
	stranger := NewPair(NewPrivateKey(), a.self)
	if _, err := stranger.Open(p); err == nil {
		t.Error("a stranger opened the packet")
	}
}

func TestNobodyIsAmplified(t *testing.T) {
	a, _ := pairs()
	ping := a.Seal(nil, Ping{})
	pong := a.Seal(nil, Pong{Observed: netip.MustParseAddrPort("[2001:db8::1]:1")})
	if len(pong) > len(ping) {
		t.Errorf("a pong has %d bytes, its ping %d", len(pong), len(ping))
	}
}

func TestSharesASocket(t *testing.T) {
	a, _ := pairs()
	p := a.Seal(nil, Ping{})
	if stun.Is(p) || p[0] <= 191 {
		t.Errorf("first byte %d could be STUN or WireGuard", p[0])
	}
	if req := stun.Request(stun.NewTxID()); LooksLike(append(req, make([]byte, 200)...)) {
		t.Error("a STUN request looks like disco")
	}
	for kind := range byte(5) {
		if LooksLike(append([]byte{kind, 0, 0, 0}, make([]byte, 200)...)) {
			t.Errorf("WireGuard message type %d looks like disco", kind)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	body := func(m Message) []byte { return m.Append(nil) }
	pong := func(addr string) []byte { return body(Pong{Observed: netip.MustParseAddrPort(addr)}) }
	many := body(messages()[5])
	many[1+txLen] = wire.MaxCandidates + 1
	tests := []struct {
		name string
		body []byte
		want error
	}{
		{"empty", nil, ErrShort},
		{"no tx", body(Ping{})[:12], ErrShort},
		{"ping without key", body(Ping{})[:20], ErrShort},
		{"pong without address", pong("192.0.2.1:1")[:20], ErrShort},
		{"pong from multicast", pong("224.0.0.1:1"), ErrAddr},
		{"pong from broadcast", pong("255.255.255.255:1"), ErrAddr},
		{"pong from nowhere", pong("0.0.0.0:1"), ErrAddr},
		{"call-me at nowhere", append(body(CallMe{})[:13], append([]byte{1}, make([]byte, 18)...)...), ErrAddr},
		{"pong from port 0", pong("192.0.2.1:0"), ErrAddr},
		{"call-me without count", body(CallMe{})[:13], ErrShort},
		{"call-me cut short", body(messages()[5])[:40], ErrShort},
		{"call-me with too many", append(many, make([]byte, addrLen)...), ErrTooMany},
		{"type 0", make([]byte, 60), ErrType},
		{"type 4", append([]byte{4}, make([]byte, 60)...), ErrType},
	}
	for _, tt := range tests {
		if m, err := Parse(tt.body); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v; want %v", tt.name, m, err, tt.want)
		}
	}
	if _, err := Parse(append(body(Ping{}), "a later version"...)); err != nil {
		t.Errorf("trailing bytes: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		body := m.Append(nil)
		if !bytes.HasPrefix(b, body) {
			t.Errorf("parsed %x, appended %x", b, body)
		}
		again, err := Parse(body)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("parsed again: %+v, %v; want %+v", again, err, m)
		}
	})
}

func FuzzOpen(f *testing.F) {
	a, b := NewPair(PrivateKey{1}, PrivateKey{2}.Public()), NewPair(PrivateKey{2}, PrivateKey{1}.Public())
	for _, m := range messages() {
		f.Add(a.Seal(nil, m))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if k, ok := Sender(p); ok && k == a.self {
			b.Open(p) // must not panic; a forged one cannot open
		}
	})
}

func BenchmarkOpenPing(b *testing.B) {
	from, to := pairs()
	p := from.Seal(nil, Ping{Tx: NewTxID()})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := to.Open(p); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPaddedPing pads to the byte, and the answer stays small.
func TestPaddedPing(t *testing.T) {
	a, b := pairs()
	want := Ping{Tx: NewTxID(), WireGuard: wire.WireGuardKey{1}}
	for _, size := range []int{0, 1, 200, 1232, 1500, MaxPadded, MaxPadded + 1} {
		p := a.Seal(nil, Ping{Tx: want.Tx, WireGuard: want.WireGuard, Size: size})
		if size >= 200 && len(p) != min(size, MaxPadded) {
			t.Errorf("padded to %d: %d bytes", size, len(p))
		}
		if _, ok := Sender(p); !ok {
			t.Errorf("padded to %d: nobody's", size)
		}
		if m, err := b.Open(p); err != nil || m != Message(want) {
			t.Errorf("padded to %d: %+v, %v", size, m, err)
		}
	}
}
