package path

import (
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
)

// FuzzPeer throws events at one side, in any order and at any time, and checks the
// laws: consent before data, bounded probing, a next instant that comes.
func FuzzPeer(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{0, 10, 7, 200, 3, 1, 7, 200, 3, 2, 8, 255, 8, 255})
	f.Add([]byte{0, 41, 8, 3, 11, 41, 8, 5, 11, 40, 8, 9, 5, 1})
	f.Add([]byte{0, 9, 4, 1, 12, 1, 8, 4, 7, 9, 7, 9, 8, 30, 12, 6, 8, 20, 6, 0})
	f.Add([]byte{4, 7, 8, 7, 3, 3, 3, 3, 9, 1, 8, 90, 8, 90, 8, 90})
	f.Fuzz(func(t *testing.T, script []byte) {
		s := &sim{}
		now := start
		p := New(now, s.newTx)
		if len(script)%2 == 1 {
			p.SetSize(1452)
		}
		var pings []Ping
		begin, sent, dialed := now, 0, time.Time{}
		addr := func(b byte) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{b % 7 * 40, 0, 2, b}), uint16(b)) // some not sendable
		}
		for i := 0; i+1 < len(script) && i < 400; i += 2 {
			arg := script[i+1]
			switch script[i] % 13 {
			case 0:
				p.SetCandidates(now, []wire.Candidate{{Addr: addr(arg)}, {Addr: addr(arg + 1)}, {Kind: wire.TCPCandidate, Addr: addr(arg + 2)}})
			case 1:
				p.HearCallMe(now, []netip.AddrPort{addr(arg), addr(arg / 2)})
			case 2:
				p.HearPing(now, addr(arg))
			case 3:
				if len(pings) > 0 {
					g := pings[int(arg)%len(pings)]
					p.HearPong(now, g.To, g.Tx)
				}
			case 4:
				p.SetRelay(wire.RelayID([]string{"", "r1", "r2"}[arg%3]))
			case 5:
				p.Traffic(now, now.Add(-time.Duration(arg)*time.Second))
			case 6:
				p.Moved(now)
			case 7:
				now = now.Add(time.Duration(arg) * time.Millisecond)
			case 8:
				now = now.Add(time.Duration(arg) * time.Second)
			case 9:
				p.Failed(now, addr(arg))
			case 12:
				p.SetSpray(8)
				kinds := []string{"easy", "hard", "none"}
				p.SetNATs(kinds[arg%3], kinds[arg/3%3])
			case 10:
				p.TooBig(now, addr(arg))
			case 11:
				p.SetStream(now, []netip.AddrPort{{}, addr(arg)}[arg%2])
			}
			out := p.Step(now)
			if !out.Next.After(now) || out.Next.Sub(now) > idleRetry+time.Second {
				t.Fatalf("next is %v from now", out.Next.Sub(now))
			}
			if d := out.Route.Direct; d.IsValid() {
				if c := p.find(d); c == nil || now.Sub(c.pong) >= Consent {
					t.Fatalf("route %v without consent", d)
				}
			}
			if d := out.Route; d.Direct.IsValid() && d.Stream.IsValid() {
				t.Fatalf("route %v is two", d)
			}
			if len(out.Dial) > 0 {
				if out.Route.IsDirect() || !dialed.IsZero() && now.Sub(dialed) < streamGap*9/10 {
					t.Fatalf("dials with route %v, %v after the last time", out.Route, now.Sub(dialed))
				}
				dialed = now
			}
			if p.Why(now) != "" == out.Route.Direct.IsValid() {
				t.Fatalf("route %v, why %q", out.Route, p.Why(now))
			}
			if out.CallMe && out.Route.Relay == "" && !p.stream.up.IsValid() {
				t.Fatal("a call without anything to carry it")
			}
			pings = append(pings, out.Pings...)
			for _, g := range out.Pings {
				if g.Side > p.Sides() || g.Side > 0 && out.Route.IsDirect() {
					t.Fatalf("a ping from socket %d of %d, route %v", g.Side, p.Sides(), out.Route)
				}
				if g.Size == 0 {
					sent++
				} else if c := p.find(g.To); c == nil || c.pong.IsZero() {
					t.Fatalf("%d bytes to %v, which has answered nothing", g.Size, g.To)
				}
			}
		}
		if most := 2*len(script) + int(now.Sub(begin)/probeGap) + int(now.Sub(begin)/sprayGap); sent > most {
			t.Fatalf("%d pings; at most %d", sent, most)
		}
	})
}

func BenchmarkStepDirect(b *testing.B) {
	s := newSim(&testing.T{}, "easy", "easy")
	s.run(10*time.Second, true)
	p, now := s.hosts[0], s.now
	b.ReportAllocs()
	for b.Loop() {
		p.Step(now)
	}
}
