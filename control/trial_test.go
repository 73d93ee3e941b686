package control

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// rebuilt makes the engine anew from what the hub holds: the answer that a trial must
// not change and an impact must agree with.
func (h *hub) rebuilt(now time.Time) *policy.Engine {
	e := policy.New()
	for tag, trust := range h.trust {
		e.PutTag(policy.Tag{Name: tag, Trust: trust}, now)
	}
	for _, n := range h.nodes {
		if !n.sys.Revoked {
			e.PutSystem(h.engineSystem(&n.sys), now)
		}
	}
	for _, p := range h.policies {
		if p.served != nil {
			e.PutPolicy(*p.served, now)
		}
	}
	return e
}

// randomFresh is a change of a random few things.
func randomFresh(r *rand.Rand, h *hub, now time.Time) fresh {
	f := fresh{systems: map[wire.SystemID]*store.System{}, policies: map[wire.PolicyID]*stored{}, revision: h.revision + 1}
	tag := func() wire.Tag { return wire.Tag(fmt.Sprintf("t%d", r.IntN(6))) }
	for range r.IntN(3) {
		n := r.IntN(40)
		id := wire.SystemID(fmt.Sprintf("s%04d", n))
		if r.IntN(5) == 0 {
			f.systems[id] = nil
			continue
		}
		s := &store.System{ID: id, Name: string(id), Kind: store.General, Approved: r.IntN(8) > 0, Enabled: r.IntN(8) > 0, Revoked: r.IntN(12) == 0,
			IPv4: netip.AddrFrom4([4]byte{100, 64, 0, byte(n + 1)}), IPv6: netip.AddrFrom16([16]byte{0xfd, 15: byte(n + 1)})}
		for range r.IntN(3) {
			if g := tag(); !slices.Contains(s.Tags, g) {
				s.Tags = append(s.Tags, g)
			}
		}
		if r.IntN(3) == 0 {
			s.Trust = []store.TrustMark{{Requirement: "mfa", Claims: map[string][]string{"role": {"dev"}}}}
			if r.IntN(2) == 0 {
				s.Trust[0].Until = now.Add(time.Duration(1+r.IntN(5)) * time.Hour)
			}
		}
		if len(s.Tags) == 0 {
			for range r.IntN(20) {
				s.Adds = append(s.Adds, wire.SystemID(fmt.Sprintf("s%04d", r.IntN(40))))
			}
		}
		if r.IntN(4) == 0 {
			s.ExpiresAt = now.Add(time.Duration(r.IntN(4)-1) * time.Hour)
		}
		f.systems[id] = s
	}
	for range r.IntN(3) {
		id := wire.PolicyID(fmt.Sprintf("p%d", r.IntN(8)))
		if r.IntN(5) == 0 {
			f.policies[id] = nil
			continue
		}
		p := direct(tag(), tag())
		p.ID, p.Enabled = id, r.IntN(6) > 0
		p.ACLs[0].Ports = []wire.Ports{nil, {{Lo: 22, Hi: 22}}, {{Lo: 1, Hi: 99}}}[r.IntN(3)]
		if r.IntN(4) == 0 {
			p.SenderTrust = []string{[]string{"mfa", "office"}[r.IntN(2)]}
		}
		if r.IntN(4) == 0 {
			p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"mon", "tue", "wed", "thu", "fri"}, Start: fmt.Sprintf("%02d:00", r.IntN(12)), End: fmt.Sprintf("%02d:30", 12+r.IntN(12))}}
		}
		if r.IntN(6) == 0 {
			end := now.Add(time.Duration(1+r.IntN(5)) * time.Hour)
			p.ExpiresAt = &end
		}
		if r.IntN(6) == 0 {
			p.Kind, p.ReceiverTags = wire.Gateway, nil
			p.Gateways = []wire.GatewayRoute{{System: wire.SystemID(fmt.Sprintf("s%04d", r.IntN(40))), Subnets: []string{"10.0.0.0/8"}}}
		}
		f.policies[id] = asStored(p)
	}
	if r.IntN(3) == 0 {
		f.trust = map[wire.Tag][]string{}
		for range r.IntN(3) {
			f.trust[tag()] = []string{"mfa"}
		}
		f.rules = &store.Rules{}
		if r.IntN(2) == 0 {
			f.rules.Requirements = []store.Requirement{{Requirement: wire.Requirement{ID: "mfa", Kind: wire.UserAuthentication,
				Claims: []wire.ClaimCondition{{Claim: "role", Value: []string{"dev", "ops"}[r.IntN(2)]}}}}}
		}
		f.rules.Requirements = append(f.rules.Requirements, store.Requirement{Requirement: wire.Requirement{ID: "office", Kind: wire.PublicIP,
			Ranges: []wire.RangeCondition{{Range: "192.0.2.0/24"}}}})
	}
	return f
}

// TestTrialsAgreeWithTheWholeTruth tries and makes random changes in random worlds. A
// trial leaves every system's pairs as they were, and tells what a comparison of whole
// engines, built anew before and after, tells.
func TestTrialsAgreeWithTheWholeTruth(t *testing.T) {
	var told, none int
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		h := emptyHub()
		now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		for step := range 40 {
			now = now.Add(time.Duration(r.IntN(20)) * time.Minute)
			h.mu.Lock()
			h.advanceHeld(now)
			f := randomFresh(r, h, now)
			before := h.rebuilt(now)
			var tr tried
			h.compare(&f, &tr, now)
			for _, id := range append(before.Systems(), "s0000") {
				if got, want := h.engine.Pairs(id, now, now.Add(time.Hour)), before.Pairs(id, now, now.Add(time.Hour)); !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d, step %d: after a trial %s has\n%+v, not\n%+v", seed, step, id, got, want)
				}
			}
			h.apply(f, now)
			after := h.rebuilt(now)
			want := policy.Diff(before, after, now)
			tr.impact.Tests = want.Tests
			for _, list := range [][]api.Access{tr.impact.Gained, tr.impact.Lost} {
				for i := range list {
					list[i].Names, list[i].PolicyName = [2]string{}, ""
				}
			}
			if !reflect.DeepEqual(tr.impact, want) {
				t.Fatalf("seed %d, step %d: the trial says\n%+v, the whole\n%+v", seed, step, tr.impact, want)
			}
			for _, id := range after.Systems() {
				if !reflect.DeepEqual(h.engine.Pairs(id, now, now), after.Pairs(id, now, now)) {
					t.Fatalf("seed %d, step %d: the change left %s otherwise than anew", seed, step, id)
				}
			}
			h.mu.Unlock()
			if want.GainedCount+want.LostCount > 0 {
				told++
			} else {
				none++
			}
		}
	}
	if told < 200 || none < 50 {
		t.Errorf("%d changes with an effect, %d without: the worlds are too dull", told, none)
	}
}

// BenchmarkDryRun asks what disabling one of many policies would do. Ten systems are
// concerned, however many there are.
func BenchmarkDryRun(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h, _ := benchHub(b, n)
			p := direct("dev-7", "pod-7")
			p.ID, p.Enabled = "p7", false
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				var t tried
				h.mu.Lock()
				h.compare(&fresh{policies: map[wire.PolicyID]*stored{"p7": asStored(p)}}, &t, now)
				h.mu.Unlock()
				if t.impact.LostCount != 25 {
					b.Fatalf("lost %d", t.impact.LostCount)
				}
			}
		})
	}
}
