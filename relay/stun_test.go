package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"tailscale.com/net/stun"
)

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	v4   = mustAddrPort("192.0.2.7:4321")
	v6   = mustAddrPort("[2001:db8:1:2::7]:4321")
)

func TestAnswerIsTheLibrarys(t *testing.T) {
	s := New(Config{})
	for _, from := range []netip.AddrPort{v4, v6, mustAddrPort("[::ffff:192.0.2.7]:4321"), mustAddrPort("[fe80::1%eth0]:65535")} {
		tx := stun.NewTxID()
		req := stun.Request(tx)
		ans, ev := s.answer(nil, req, from, noon)
		plain := netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
		if ev != stunAnswered || !bytes.Equal(ans, stun.Response(tx, plain)) {
			t.Errorf("%v: %v, %x", from, ev, ans)
		}
		gotTx, seen, err := stun.ParseResponse(ans)
		if err != nil || gotTx != tx || seen != plain {
			t.Errorf("%v: reads as %v, %v", from, seen, err)
		}
		if 2*len(ans) > 3*len(req) {
			t.Errorf("%v: %d bytes for %d", from, len(ans), len(req))
		}
	}
}

// padded is a binding request with other software and a right fingerprint.
func TestWhatSTUNRefuses(t *testing.T) {
	req := stun.Request(stun.TxID{1, 2, 3})
	with := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(req)) }
	set := func(i int, v byte) []byte { return with(func(b []byte) []byte { b[i] = v; return b }) }
	bare := with(func(b []byte) []byte { binary.BigEndian.PutUint16(b[2:], 0); return b[:20] })
	for name, c := range map[string]struct {
		in   []byte
		want event
	}{
		"empty":                    {nil, stunNotSTUN},
		"noise":                    {bytes.Repeat([]byte{0xff}, 40), stunNotSTUN},
		"no cookie":                {set(5, 0), stunNotSTUN},
		"cut":                      {req[:39], stunNotSTUN},
		"length too large":         {set(3, 24), stunNotSTUN},
		"length of 64 KiB":         {with(func(b []byte) []byte { b[2], b[3] = 0xff, 0xfc; return b }), stunNotSTUN},
		"trailing bytes":           {append(bytes.Clone(req), 0, 0, 0, 0), stunNotSTUN},
		"an answer":                {stun.Response(stun.TxID{1}, v4), stunNotRequest},
		"an indication":            {set(1, 0x11), stunNotRequest},
		"an error answer":          {with(func(b []byte) []byte { b[0], b[1] = 0x01, 0x11; return b }), stunNotRequest},
		"an allocate request":      {set(1, 0x03), stunNotRequest},
		"bare header":              {bare, stunForeign},
		"other software":           {set(24, 'x'), stunForeign},
		"wrong fingerprint":        {set(39, req[39]^1), stunForeign},
		"attribute beyond the end": {set(23, 0xff), stunForeign},
		"larger than any":          {make([]byte, maxSTUNRequest+1), stunSize},
	} {
		s := New(Config{})
		if ans, ev := s.answer(nil, c.in, v4, noon); ev != c.want || ans != nil {
			t.Errorf("%s: %v, %x; want %v", name, ev, ans, c.want)
		}
	}
}

func TestSTUNRateIsPerPrefix(t *testing.T) {
	s := New(Config{Limits: Limits{STUNRate: 10, STUNBurst: 20}})
	req := stun.Request(stun.TxID{1})
	ask := func(from string, at time.Time) bool {
		_, ev := s.answer(nil, req, mustAddrPort(from), at)
		if ev != stunAnswered && ev != stunRate {
			t.Fatalf("%s: %v", from, ev)
		}
		return ev == stunAnswered
	}
	burst := func(from string, at time.Time) (n int) {
		for n < 1000 && ask(from, at) {
			n++
		}
		return n
	}
	if n := burst("192.0.2.1:1", noon); n != 20 {
		t.Errorf("%d at once, want 20", n)
	}
	if ask("192.0.2.200:9", noon) {
		t.Error("another address of the /24 has its own bucket")
	}
	if n := burst("[2001:db8:1:2::1]:1", noon); n != 20 {
		t.Errorf("IPv6: %d at once, want 20", n)
	}
	if ask("[2001:db8:1:ffff::1]:1", noon) {
		t.Error("another /64 of the /48 has its own bucket")
	}
	if n := burst("192.0.2.1:1", noon.Add(time.Second)); n != 10 {
		t.Errorf("%d after a second, want 10", n)
	}
	if n := burst("192.0.2.1:1", noon.Add(-time.Hour)); n != 0 {
		t.Errorf("a clock that went back gave %d", n)
	}
	if n := burst("192.0.2.1:1", noon.Add(time.Hour)); n != 20 {
		t.Errorf("%d after an hour, want 20", n)
	}
}

// A flood from spoofed sources costs no memory and at most the table's tokens.
func TestSTUNFloodIsBounded(t *testing.T) {
	s := New(Config{Limits: Limits{STUNRate: 1, STUNBurst: 2, STUNTableBits: 4}})
	req := stun.Request(stun.TxID{1})
	answered := 0
	for i := range 100_000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}), 1)
		if _, ev := s.answer(nil, req, from, noon); ev == stunAnswered {
			answered++
		}
	}
	if answered != 32 || len(s.stun.table) != 16 {
		t.Errorf("%d answers from %d buckets of 2", answered, len(s.stun.table))
	}
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	s := New(Config{Limits: Limits{STUNRate: 1e9, STUNBurst: 1e9}})
	req, resp := stun.Request(stun.TxID{1}), stun.Response(stun.TxID{1}, v4)
	out := make([]byte, 0, maxSTUNAnswer)
	if n := testing.AllocsPerRun(1000, func() {
		s.answer(out, req, v6, noon)
		s.answer(out, resp, v4, noon)
		s.answer(out, req[:30], v4, noon)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestServeSTUNOnASocket(t *testing.T) {
	s := New(Config{})
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.ServeSTUN(t.Context(), pc) }()
	conn, err := net.DialUDP("udp4", nil, pc.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tx := stun.NewTxID()
	conn.Write(make([]byte, 9000)) // truncated by the read, refused by its size
	conn.Write(stun.Response(tx, v4))
	conn.Write(stun.Request(tx))
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	var b [100]byte
	n, err := conn.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	if gotTx, seen, err := stun.ParseResponse(b[:n]); err != nil || gotTx != tx || seen != conn.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Errorf("answer %v, %v", seen, err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("ServeSTUN: %v", err)
	}
	st := s.Stats().Counts
	if st["stun_datagrams/answered"] != 1 || st["stun_datagrams/size"] != 1 || st["stun_datagrams/not_request"] != 1 {
		t.Errorf("%v", st)
	}
	if _, err := pc.Write(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("socket left open: %v", err)
	}
}

// FuzzAnswer: never a panic, never more than one and a half times the question, and
// an answer only to what stun.Request could have written.
func FuzzAnswer(f *testing.F) {
	f.Add(stun.Request(stun.TxID{1}), []byte{192, 0, 2, 1})
	f.Add(stun.Response(stun.TxID{1}, v6), bytes.Repeat([]byte{0x20}, 16))
	f.Fuzz(func(t *testing.T, in, ip []byte) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return
		}
		s := New(Config{Limits: Limits{STUNTableBits: 1}})
		ans, ev := s.answer(nil, in, netip.AddrPortFrom(addr, 7), noon)
		if (ev == stunAnswered) != (ans != nil) || 2*len(ans) > 3*len(in) {
			t.Fatalf("%v, %x", ev, ans)
		}
		if ans != nil {
			tx, seen, err := stun.ParseResponse(ans)
			if err != nil || !bytes.Equal(tx[:], in[8:20]) || seen.Addr() != addr.Unmap() {
				t.Fatalf("%x reads as %v, %v", ans, seen, err)
			}
			if _, again := s.answer(nil, ans, netip.AddrPortFrom(addr, 7), noon); again == stunAnswered {
				t.Fatal("answers an answer")
			}
		}
	})
}
