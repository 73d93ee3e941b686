package filter

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// rule is a grant with its instants as nanoseconds, which compare in one step.
type rule struct {
	wire.Grant
	from, until int64 // half open
}

// rules answers which rule lets a flow be opened in one direction between this
// system and one peer. The tables hold for the instants in [from, until), in which
// no grant begins or ends: a lookup never asks the time, and each port has one
// winner, so that memory stays linear in the ranges however they overlap.
type rules struct {
	all         []rule // in order of precedence
	from, until int64
	tcp, udp    segments
	icmp, other *rule

	// What lies behind the receiver, for which ports alone decide nothing.
	beyond []beyond  // in order of precedence
	open   []*beyond // those that count now
}

// segments maps a port to the rule that wins it. Segment i starts at lo[i] and ends
// before lo[i+1]; lo[0] is 0. A nil rule means that nobody allows these ports.
type segments struct {
	lo   []uint16
	rule []*rule
}

// newRules sorts grants by precedence, lowest policy first, then lowest rule: the
// order in which a policy document is read, whatever order the map came in.
func newRules(grants []wire.Grant, from, to wire.SystemID) *rules {
	r := &rules{}
	for _, g := range grants {
		if g.From != from || g.To != to {
			continue
		}
		one := rule{g, instant(g.NotBefore, math.MinInt64), instant(g.NotAfter, math.MaxInt64)}
		// A grant for what lies behind a gateway opens nothing on the gateway itself.
		if g.Subnets == nil {
			r.all = append(r.all, one)
		} else {
			r.beyond = append(r.beyond, beyond{one, newSpans(g.Subnets)})
		}
	}
	slices.SortStableFunc(r.all, func(a, b rule) int { return a.compare(&b) })
	slices.SortStableFunc(r.beyond, func(a, b beyond) int { return a.compare(&b.rule) })
	return r
}

// compare orders rules by precedence.
func (r *rule) compare(o *rule) int {
	return cmp.Or(strings.Compare(string(r.Policy), string(o.Policy)), cmp.Compare(r.Rule, o.Rule))
}

// instant clamps t to what nanoseconds can hold (the years 1678 to 2262).
func instant(t time.Time, zero int64) int64 {
	switch s := t.Unix(); {
	case t.IsZero():
		return zero
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	case s <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	}
	return t.UnixNano()
}

// compile fills the tables for the instant wall and notes how long they hold.
func (r *rules) compile(wall int64) {
	r.from, r.until = math.MinInt64, math.MaxInt64
	r.icmp, r.other = nil, nil
	active := make([]*rule, 0, len(r.all))
	r.open = nil
	for i := range r.beyond {
		if g := &r.beyond[i]; r.counts(&g.rule, wall) {
			r.open = append(r.open, g)
		}
	}
	for i := range r.all {
		g := &r.all[i]
		if !r.counts(g, wall) {
			continue
		}
		active = append(active, g)
		if r.icmp == nil && (g.Proto == wire.ICMP || g.Proto == wire.Any) {
			r.icmp = g
		}
		if r.other == nil && g.Proto == wire.Any {
			r.other = g
		}
	}
	r.tcp, r.udp = paint(active, wire.TCP), paint(active, wire.UDP)
}

// counts reports whether g counts at wall, and shortens how long the tables hold to it.
func (r *rules) counts(g *rule, wall int64) bool {
	for _, edge := range [2]int64{g.from, g.until} {
		if edge <= wall {
			r.from = max(r.from, edge)
		} else {
			r.until = min(r.until, edge)
		}
	}
	return wall >= g.from && wall < g.until
}

// lookup returns the rule that allows a flow, or nil.
func (r *rules) lookup(proto wire.Proto, port uint16) *rule {
	switch proto {
	case wire.TCP:
		return r.tcp.at(port)
	case wire.UDP:
		return r.udp.at(port)
	case wire.ICMP:
		return r.icmp
	}
	return r.other
}

func (s *segments) at(port uint16) *rule {
	i, j := 0, len(s.lo)
	for i < j {
		if m := int(uint(i+j) / 2); s.lo[m] <= port {
			i = m + 1
		} else {
			j = m
		}
	}
	if i == 0 {
		return nil
	}
	return s.rule[i-1]
}

// paint lays the port ranges of the rules for proto over one another, the first
// rule on top. Each elementary segment is painted once: skip leads from a painted
// one to the next that is free (union-find), so overlaps cost nothing.
func paint(active []*rule, proto wire.Proto) segments {
	bounds := []uint32{0}
	eachRange(active, proto, func(_ *rule, lo, hi uint32) { bounds = append(bounds, lo, hi) })
	if len(bounds) == 1 {
		return segments{}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	winner, skip := make([]*rule, len(bounds)), make([]int32, len(bounds)+1)
	for i := range skip {
		skip[i] = int32(i)
	}
	free := func(i int32) int32 {
		for skip[i] != i {
			skip[i] = skip[skip[i]]
			i = skip[i]
		}
		return i
	}
	eachRange(active, proto, func(g *rule, lo, hi uint32) {
		at, _ := slices.BinarySearch(bounds, lo)
		for i := free(int32(at)); int(i) < len(bounds) && bounds[i] < hi; i = free(i) {
			winner[i], skip[i] = g, i+1
		}
	})
	var s segments
	for i, g := range winner {
		if bounds[i] <= math.MaxUint16 && (i == 0 || g != winner[i-1]) {
			s.lo, s.rule = append(s.lo, uint16(bounds[i])), append(s.rule, g)
		}
	}
	return s
}

// eachRange calls f with every range [lo, hi) that the rules allow for proto.
func eachRange(active []*rule, proto wire.Proto, f func(g *rule, lo, hi uint32)) {
	for _, g := range active {
		switch {
		case g.Proto != proto && g.Proto != wire.Any:
		case g.Proto == wire.Any || g.Ports == nil:
			f(g, 0, math.MaxUint16+1)
		default:
			for _, r := range g.Ports {
				if r.Lo <= r.Hi {
					f(g, uint32(r.Lo), uint32(r.Hi)+1)
				}
			}
		}
	}
}
