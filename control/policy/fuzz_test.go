package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

// FuzzChanges plays random changes and passing time on an engine and on the naive
// evaluator. After each: both give the same pairs and verdicts, an engine built from
// nothing agrees, whoever's pairs differ was named, and what is told to be gained and lost
// is what the naive evaluator allows now and did not before, and the other way round.
func FuzzChanges(f *testing.F) {
	for seed := range uint64(24) {
		f.Add(seed, uint8(10))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) {
		play(t, seed, int(steps)%24)
	})
}

func play(t *testing.T, seed uint64, steps int) {
	d := dice{rand.New(rand.NewPCG(seed, 1))}
	e, w, now := New(), newWorld(), epoch
	for i := range 5 {
		s := d.system(i, now)
		w.systems[s.ID] = s
		e.PutSystem(s, now)
	}
	for i := range 3 {
		p := d.policy(i, now)
		w.put(p)
		mustPut(t, e, p, now)
	}
	for range steps {
		horizon := now.Add(time.Duration(d.IntN(3*96)) * grid)
		before, was, baseline := everyPair(e, now, horizon), e.Clone(), w.copied()
		touched := new(Touched)
		e.Record(touched)
		what, later, named := change(t, d, e, w, now)
		e.Record(nil)
		now = later
		after := everyPair(e, now, horizon)
		for id := range after {
			if !samePairs(terms(before[id]), terms(after[id])) && !slices.Contains(named, id) {
				t.Fatalf("%s at %v: the pairs of %s differ, but it was not named\nbefore %v\nafter  %v", what, now, id, before[id], after[id])
			}
		}
		differs(t, what, e, before, after, touched, now, horizon)
		for id := range before {
			if _, still := after[id]; !still && len(before[id]) > 0 && !slices.Contains(named, id) {
				t.Fatalf("%s: %s is gone, but was not named", what, id)
			}
		}
		if n := slices.IndexFunc(named, func(id wire.SystemID) bool { return before[id] == nil && after[id] == nil }); n >= 0 && e.systems[named[n]] == nil && !slices.Contains(slices.Collect(maps.Keys(before)), named[n]) {
			t.Fatalf("%s named %s, which never was", what, named[n])
		}
		agree(t, d, e, w, now, horizon, what)
		impact(t, d, was, e, baseline, w, now, what)
	}
}

// impact checks what is told of a change against the naive evaluator before and after it.
func impact(t *testing.T, d dice, before, after *Engine, baseline, w *world, now time.Time, what string) {
	t.Helper()
	diff := Diff(before, after, now)
	for range 30 {
		q := d.packet()
		q.Reply = false
		if q.Proto == wire.TCP || q.Proto == wire.UDP {
			q.DstPort = max(q.DstPort, 1)
		}
		lead := d.toName(&q)
		was, is := baseline.byWhom(q, lead, now), w.byWhom(q, lead, now)
		for to := range is {
			if got := told(diff.Gained, after, q, lead, to); got == was[to] {
				t.Fatalf("%s: %+v (%v) to %s: before %v after %v, told as gained %v: %+v", what, q, lead, to, was, is, got, diff.Gained)
			}
		}
		for to := range was {
			if got := told(diff.Lost, before, q, lead, to); got == is[to] {
				t.Fatalf("%s: %+v (%v) to %s: before %v after %v, told as lost %v: %+v", what, q, lead, to, was, is, got, diff.Lost)
			}
		}
	}
}

// differs checks that whatever pair differs was touched, and that Between is Pairs.
func differs(t *testing.T, what string, e *Engine, before, after map[wire.SystemID][]Pair, touched *Touched, now, horizon time.Time) {
	t.Helper()
	between := func(list []Pair, peer wire.SystemID) []wire.Grant {
		if i := slices.IndexFunc(list, func(p Pair) bool { return p.Peer == peer }); i >= 0 {
			return list[i].Grants
		}
		return nil
	}
	for i := range 6 {
		id := wire.SystemID(fmt.Sprintf("sys%02d", i))
		peers, known := touched.Peers(id), e.Peers(id, now)
		for j := range 6 {
			peer := wire.SystemID(fmt.Sprintf("sys%02d", j))
			is := between(after[id], peer)
			if got := e.Between(id, peer, now, horizon); !reflect.DeepEqual(got, is) {
				t.Fatalf("%s: between %s and %s %v, of all pairs %v", what, id, peer, got, is)
			}
			if is != nil && !slices.Contains(known, peer) {
				t.Fatalf("%s: %s knows %s, which is not among its peers %v", what, id, peer, known)
			}
			if !reflect.DeepEqual(between(terms(before[id]), peer), between(terms(after[id]), peer)) && !slices.Contains(peers, peer) {
				t.Fatalf("%s: what is between %s and %s differs, but was not touched", what, id, peer)
			}
		}
	}
}

// change makes one random change and says what it was and whom it concerned.
func change(t *testing.T, d dice, e *Engine, w *world, now time.Time) (string, time.Time, []wire.SystemID) {
	switch d.IntN(8) {
	case 0, 1:
		s := d.system(d.IntN(6), now)
		if old, ok := w.systems[s.ID]; ok {
			switch d.IntN(4) {
			case 0:
				old.Tags, s = s.Tags, old
			case 1:
				old.Adds, s = s.Adds, old
			}
		}
		w.systems[s.ID] = s
		w.changed()
		return fmt.Sprintf("put %+v", s), now, e.PutSystem(s, now)
	case 2:
		id := wire.SystemID(fmt.Sprintf("sys%02d", d.IntN(6)))
		delete(w.systems, id)
		return "drop " + string(id), now, e.DropSystem(id, now)
	case 3, 4:
		p := d.policy(d.IntN(4), now)
		if old, ok := w.policies[p.ID]; ok && d.IntN(2) == 0 && p.Kind == wire.Direct && old.Kind == wire.Direct {
			old.SenderTags, old.RecvTrust = p.SenderTags, p.RecvTrust
			p = old
		}
		w.put(p)
		return fmt.Sprintf("put %+v", p), now, mustPut(t, e, p, now)
	case 5:
		id := wire.PolicyID(fmt.Sprintf("p%d", d.IntN(4)))
		delete(w.policies, id)
		w.changed()
		return "drop " + string(id), now, e.DropPolicy(id, now)
	case 6:
		tag := Tag{wire.Tag([]string{"a", "b", "c"}[d.IntN(3)]), d.trust()}
		w.tags[tag.Name] = tag.Trust
		return fmt.Sprintf("tag %+v", tag), now, e.PutTag(tag, now)
	}
	later := now.Add(time.Duration(d.IntN(96)) * grid)
	named, next := e.Advance(later)
	if !next.IsZero() && !next.After(later) {
		t.Fatalf("the next edge %v is not after %v", next, later)
	}
	return "advance", later, named
}

// agree compares the engine with the naive evaluator and with one built from nothing.
func agree(t *testing.T, d dice, e *Engine, w *world, now, horizon time.Time, what string) {
	t.Helper()
	fresh := New()
	for _, p := range w.policies {
		mustPut(t, fresh, p, now)
	}
	for _, s := range w.systems {
		fresh.PutSystem(s, now)
	}
	for name, trust := range w.tags {
		fresh.PutTag(Tag{name, trust}, now)
	}
	var connected [][2]wire.SystemID
	for id, s := range w.systems {
		got := e.Pairs(id, now, horizon)
		if !samePairs(got, fresh.Pairs(id, now, horizon)) {
			t.Fatalf("%s: incremental and from nothing differ for %s", what, id)
		}
		checkSubnets(t, w, got)
		want := w.pairs(id, now, horizon)
		if !samePairs(bare(got), want) {
			t.Fatalf("%s at %v: pairs of %s\n got %v\nwant %v\n%+v", what, now, id, bare(got), want, w.policies)
		}
		for _, o := range w.systems {
			introduced := slices.ContainsFunc(want, func(p Pair) bool { return p.Peer == o.ID })
			if e.Introduced(id, o.ID, now) != introduced {
				t.Fatalf("%s: introduced %s %s, want %v", what, s.ID, o.ID, introduced)
			}
			if introduced && id < o.ID {
				connected = append(connected, [2]wire.SystemID{id, o.ID})
			}
		}
	}
	if got := e.Connected(now); len(got) != len(connected) {
		t.Fatalf("%s: connected %v, want %v", what, got, connected)
	}
	for range 30 {
		q := d.packet()
		flow := q
		if q.Reply {
			flow = turn(q)
		}
		want := w.accept(flow, now)
		v := e.Evaluate(q, now)
		if v.Allow != (len(want) > 0) || v.Why == "" {
			t.Fatalf("%s: %+v at %v: got %+v, want %v", what, q, now, v, want)
		}
		if v.Allow && !slices.Contains(want, match2{v.Policy, v.Rule}) {
			t.Fatalf("%s: %+v names %s rule %d, which is none of %v", what, q, v.Policy, v.Rule, want)
		}
	}
}

func everyPair(e *Engine, now, horizon time.Time) map[wire.SystemID][]Pair {
	out := make(map[wire.SystemID][]Pair)
	for _, id := range e.Systems() {
		out[id] = e.Pairs(id, now, horizon)
	}
	return out
}

func samePairs(a, b []Pair) bool {
	return (len(a) == 0 && len(b) == 0) || reflect.DeepEqual(a, b)
}

// terms drops what is for people only: of a change of it alone nobody has to hear.
func terms(in []Pair) (out []Pair) {
	for _, p := range in {
		p.Grants = slices.Clone(p.Grants)
		for i := range p.Grants {
			p.Grants[i].Name, p.Grants[i].Ends = "", ""
		}
		out = append(out, p)
	}
	return out
}

// bare drops that and the subnets, which the naive evaluator knows only address by address.
func bare(in []Pair) (out []Pair) {
	for _, p := range terms(in) {
		for i := range p.Grants {
			p.Grants[i].Subnets, p.Grants[i].Names, p.Grants[i].Within = nil, nil, nil
		}
		out = append(out, p)
	}
	return out
}

func checkSubnets(t *testing.T, w *world, pairs []Pair) {
	t.Helper()
	for _, p := range pairs {
		for _, g := range p.Grants {
			policy := w.policies[g.Policy]
			if (policy.Kind == wire.Gateway) != (len(g.Subnets) > 0) {
				t.Fatalf("grant %+v of a %s policy", g, policy.Kind)
			}
			for _, x := range probes() {
				in := slices.ContainsFunc(g.Subnets, func(q netip.Prefix) bool { return q.Contains(x) })
				if policy.Kind == wire.Gateway && in != w.reaches(w.systems[g.To], policy, x) {
					t.Fatalf("%s in %v is %v", x, g.Subnets, in)
				}
			}
		}
	}
}

func mustPut(t testing.TB, e *Engine, p wire.Policy, now time.Time) []wire.SystemID {
	t.Helper()
	named, bad := e.PutPolicy(p, now)
	if len(bad) > 0 {
		t.Fatalf("policy %s: %v", p.ID, bad)
	}
	return named
}

// FuzzHours compares the computed next edge with a walk over minutes.
func FuzzHours(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, int64(seed)*7_000_003)
	}
	f.Fuzz(func(t *testing.T, seed uint64, unix int64) {
		d := dice{rand.New(rand.NewPCG(seed, 2))}
		at := time.Unix(1_500_000_000+(unix%500_000_000), int64(d.IntN(2))*500).UTC()
		zones := []string{"Europe/London", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia", "Africa/Casablanca", "Asia/Beirut"}
		p := wire.Policy{}
		for range 1 + d.IntN(3) {
			win := d.window()
			win.Zone = zones[d.IntN(len(zones))]
			p.ActiveHours = append(p.ActiveHours, win)
		}
		w := newWorld()
		h, err := compileHours(p.ActiveHours, func(n string) (*time.Location, error) { return w.zone(n), nil })
		if err != nil {
			t.Fatal(err)
		}
		was := w.inHours(p, at)
		if h.active(at) != was {
			t.Fatalf("%v at %v: active is %v", p.ActiveHours, at, !was)
		}
		edge := h.change(at)
		for m := at.Truncate(time.Minute).Add(time.Minute); m.Before(at.Add(15 * 24 * time.Hour)); m = m.Add(time.Minute) {
			if w.inHours(p, m) != was {
				if !edge.Equal(m) {
					t.Fatalf("%v after %v: edge %v, want %v", p.ActiveHours, at, edge, m)
				}
				return
			}
		}
		if !edge.IsZero() && h.active(edge) == was && edge.Before(at.Add(15*24*time.Hour)) {
			t.Fatalf("%v after %v: edge %v flips nothing", p.ActiveHours, at, edge)
		}
	})
}
