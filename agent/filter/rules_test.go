package filter

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"enclave/wire"
)

// TestTheFirstRuleThatCountsWins asks the tables and, beside them, each grant in turn: at
// instants around every edge, for ports around every bound.
func TestTheFirstRuleThatCountsWins(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	end := func() time.Time {
		if rng.IntN(2) == 0 {
			return time.Time{}
		}
		return start.Add(time.Duration(rng.IntN(6)) * time.Hour)
	}
	for range 300 {
		var grants []wire.Grant
		for i := range rng.IntN(8) {
			g := wire.Grant{From: "alice", To: "bob00", Policy: wire.PolicyID([]string{"p1", "p2"}[rng.IntN(2)]), Rule: i,
				Proto: []wire.Proto{wire.TCP, wire.UDP, wire.ICMP, wire.Any}[rng.IntN(4)], NotBefore: end(), NotAfter: end()}
			switch rng.IntN(4) {
			case 0:
				g.From, g.To = g.To, g.From
			case 1:
				g.Ports = wire.Ports{}
			case 2:
				for range rng.IntN(4) {
					lo := uint16(rng.IntN(9))
					g.Ports = append(g.Ports, wire.PortRange{Lo: lo, Hi: lo + uint16(rng.IntN(4))})
				}
			case 3:
				g.Ports = wire.Ports{{Lo: 5, Hi: 4}, {Lo: 65530, Hi: 65535}}
			}
			grants = append(grants, g)
		}
		r := newRules(grants, "alice", "bob00")
		for hour := -1; hour < 7; hour++ {
			for _, off := range []time.Duration{-1, 0, 1} {
				at := start.Add(time.Duration(hour)*time.Hour + off)
				r.compile(at.UnixNano())
				if r.from > at.UnixNano() || r.until <= at.UnixNano() {
					t.Fatalf("the tables of %s hold from %d to %d", at, r.from, r.until)
				}
				for _, proto := range []wire.Proto{wire.TCP, wire.UDP, wire.ICMP, 47} {
					for _, port := range []uint16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 80, 65529, 65530, 65535} {
						want, got := naive(grants, at, proto, port), r.lookup(proto, port)
						if (want == nil) != (got == nil) || want != nil && (want.Policy != got.Policy || want.Rule != got.Rule) {
							t.Fatalf("%s/%d at %s: %+v, want %+v of %+v", proto, port, at, got, want, grants)
						}
					}
				}
			}
		}
	}
}

// naive reads the grants as their documentation says.
func naive(grants []wire.Grant, at time.Time, proto wire.Proto, port uint16) (best *wire.Grant) {
	for i := range grants {
		g := &grants[i]
		if g.From != "alice" || g.To != "bob00" || at.Before(g.NotBefore) || !g.NotAfter.IsZero() && !at.Before(g.NotAfter) {
			continue
		}
		allows := g.Proto == wire.Any
		if g.Proto == proto {
			allows = g.Ports == nil || proto == wire.ICMP
			for _, p := range g.Ports {
				allows = allows || p.Lo <= port && port <= p.Hi
			}
		}
		if allows && (best == nil || g.Policy < best.Policy || g.Policy == best.Policy && g.Rule < best.Rule) {
			best = g
		}
	}
	return best
}

// TestInstantsBeyondNanoseconds are the last and the first there are: an expiry in the year
// 9999 is none that has passed.
func TestInstantsBeyondNanoseconds(t *testing.T) {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{time.Time{}, 7}, {year(9999), math.MaxInt64}, {year(2263), math.MaxInt64}, {year(2262), year(2262).UnixNano()},
		{year(1), 7}, {year(2), math.MinInt64}, {year(1677), math.MinInt64}, {year(1678), year(1678).UnixNano()}, {year(1970), 0},
	} {
		if got := instant(c.at, 7); got != c.want {
			t.Errorf("%s is %d, want %d", c.at, got, c.want)
		}
	}
}
