package path

import (
	"net/netip"
	"testing"
	"time"
)

// TestSprayingIsBounded: what leaves for a peer that never answers, in three hours.
func TestSprayingIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name         string
		ours, theirs string
		n            int
		tries, most  int // attempts before it rests; pings of one
	}{
		{"off", "easy", "hard", 0, 0, 0},
		{"tries ports", "easy", "hard", 300, sprayTries, 300},
		{"tries ports behind a firewall alone", "none", "hard", 5000, sprayTries, MaxSpray},
		{"opens sockets", "hard", "easy", 1024, sprayTries, 2 * MaxSides},
		{"opens few sockets", "hard", "none", 50, sprayTries, 100},
		{"both random", "hard", "hard", 1024, 0, 0},
		{"both known", "easy", "easy", 1024, 0, 0},
		{"blocked", "hard", "blocked", 1024, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim(t, "easy", "easy")
			h := s.hosts[0]
			h.SetNATs(tt.ours, tt.theirs)
			h.SetSpray(tt.n)
			named := map[netip.AddrPort]bool{}
			for _, c := range s.hosts[1].reach() {
				named[c.Addr] = true
			}
			peer := s.hosts[1].public
			sprayed, begun := 0, 0
			var begins []time.Time
			var second []time.Time
			for end := s.now.Add(3 * time.Hour); s.now.Before(end); {
				h.Traffic(s.now, s.now)
				was := h.Spraying()
				out := h.Step(s.now)
				if h.Spraying() && !was {
					begins, begun = append(begins, s.now), sprayed
				}
				for _, g := range out.Pings {
					if g.Side == 0 && named[g.To] {
						continue // an ordinary round
					}
					sprayed++
					if second = append(second, s.now); len(second) > int(time.Second/sprayGap) {
						if gap := s.now.Sub(second[0]); gap < time.Second-sprayGap {
							t.Fatalf("%d pings within %v", len(second), gap)
						}
						second = second[1:]
					}
					if g.To.Addr() != peer || g.To.Port() < 1024 || g.Side > min(tt.n, MaxSides) || g.Side > 0 && !named[g.To] {
						t.Fatalf("%v by socket %d", g.To, g.Side)
					}
				}
				if sprayed-begun > tt.most {
					t.Fatalf("%d pings in one attempt", sprayed-begun)
				}
				s.now = out.Next
			}
			if len(begins) != 3*tt.tries {
				t.Errorf("%d attempts in three hours, want %d and rests of %v", len(begins), 3*tt.tries, sprayRest)
			}
			for i := 1; i < len(begins); i++ {
				if d := begins[i].Sub(begins[i-1]); d < sprayEvery || i%sprayTries == 0 && d < sprayRest {
					t.Errorf("attempt %d came %v after the one before", i, d)
				}
			}
			if sprayed != len(begins)*tt.most {
				t.Errorf("%d pings in %d attempts, want %d in each", sprayed, len(begins), tt.most)
			}
		})
	}
}

// TestSprayedPortsAreDistinct: the theory counts on that.
func TestSprayedPortsAreDistinct(t *testing.T) {
	s := newSim(t, "easy", "easy")
	h := s.hosts[0]
	h.SetNATs("easy", "hard")
	h.SetSpray(MaxSpray)
	seen := map[uint16]bool{}
	n := 0
	for end := s.now.Add(sprayAfter + sprayEvery - time.Second); s.now.Before(end); {
		out := h.Step(s.now)
		for _, g := range out.Pings {
			if h.spray.begun.IsZero() || g.To.Addr() != s.hosts[1].public || h.find(g.To) != nil {
				continue
			}
			n++
			seen[g.To.Port()] = true
		}
		s.now = out.Next
	}
	if n < MaxSpray-1 || len(seen) != n {
		t.Errorf("%d different ports in %d pings", len(seen), n)
	}
}
