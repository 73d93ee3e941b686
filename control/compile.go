package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
)

// stored is a policy as it is stored and as it is served. The two differ only where what
// is stored does not validate, after an upgrade or by another hand.
type stored struct {
	store.Policy
	served  *wire.Policy // nil is left out
	ends    time.Time    // of what is served; zero is never
	warning string       // why the two differ
	bad     []wire.Problem
}

// maxFallback is how many past versions are looked at for one that can be served.
const maxFallback = 64

// hold finds what to serve of a stored policy: itself, or else its last version that
// validates, or nothing. A past version never grants what was switched off since: it is
// enabled only while the stored one is, and ends when either does.
func hold(ctx context.Context, st *store.Store, p store.Policy) (*stored, error) {
	h := &stored{Policy: p}
	if p.Broken != "" {
		h.bad = []wire.Problem{{Message: "the document cannot be read: " + p.Broken}}
	} else if h.bad = policy.Validate(&p.Policy, ""); len(h.bad) == 0 {
		h.served, h.ends = &p.Policy, p.EndsAt
		return h, nil
	}
	versions, err := st.PolicyVersions(ctx, p.ID, maxFallback)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("policy %s %q does not validate (%s)", p.ID, p.Name, h.bad[0].Error())
	for _, v := range versions {
		var old wire.Policy
		if v.Document == nil {
			break // it began anew after that
		}
		if json.Unmarshal(v.Document, &old) != nil || len(policy.Validate(&old, "")) > 0 {
			continue
		}
		old.ID, old.Enabled = p.ID, old.Enabled && p.Enabled
		h.ends, _ = old.Expiry() // it validates, so it has one
		if !p.EndsAt.IsZero() && (h.ends.IsZero() || p.EndsAt.Before(h.ends)) {
			h.ends, old.ExpiresAt, old.ExpiresLocal = p.EndsAt, &p.EndsAt, nil
		}
		h.served = &old
		h.warning = fmt.Sprintf("%s: serving it as of revision %d", name, v.Revision)
		return h, nil
	}
	h.warning = name + ": left out"
	return h, nil
}

// compile brings the engine, and what judges its systems, to what f says, and returns
// the systems whose pairs may differ; mu is held. What else the hub knows of systems
// and policies stays: a trial compiles, looks, and compiles back.
func (h *hub) compile(f *fresh, now time.Time) (affected []wire.SystemID) {
	if f.trust != nil {
		for tag := range h.trust {
			if _, ok := f.trust[tag]; !ok {
				affected = append(affected, h.engine.PutTag(policy.Tag{Name: tag}, now)...)
			}
		}
		for tag, requirements := range f.trust {
			if !slices.Equal(requirements, h.trust[tag]) {
				affected = append(affected, h.engine.PutTag(policy.Tag{Name: tag, Trust: requirements}, now)...)
			}
		}
		h.trust = f.trust
	}
	if f.rules != nil {
		again := !reflect.DeepEqual(f.rules.Requirements, h.rules.Requirements)
		h.rules = *f.rules
		if again { // of a requirement that is described otherwise, anybody may be concerned
			for id, n := range h.nodes {
				if _, also := f.systems[id]; !also {
					affected = append(affected, h.judge(n, now)...)
				}
			}
		}
	}
	for id, s := range f.systems {
		if s == nil {
			affected = append(affected, h.engine.DropSystem(id, now)...)
			affected = append(affected, id)
			continue
		}
		sys := *s
		if n := h.nodes[id]; n != nil {
			sys.Live = n.sys.Live // memory is ahead of the store about it
			n.judged = h.met(&sys)
		}
		affected = append(affected, h.engine.PutSystem(h.engineSystem(&sys), now)...)
		affected = append(affected, id)
	}
	for id, p := range f.policies {
		if p == nil || p.served == nil {
			affected = append(affected, h.engine.DropPolicy(id, now)...)
			continue
		}
		ids, problems := h.engine.PutPolicy(*p.served, now)
		affected = append(affected, ids...)
		if len(problems) > 0 {
			// It cannot count in part, and an older form of it must not go on counting.
			affected = append(affected, h.engine.DropPolicy(id, now)...)
			p.bad, p.served = problems, nil
			p.warning = fmt.Sprintf("policy %s %q does not validate (%s): left out", id, p.Name, problems[0].Error())
		}
	}
	return affected
}

func (h *hub) engineSystem(s *store.System) policy.System {
	return policy.System{
		ID: s.ID, IPs: []netip.Addr{s.IPv4, s.IPv6}, Tags: s.Tags,
		Approved: s.Approved, Enabled: s.Enabled, Revoked: s.Revoked, ExpiresAt: s.ExpiresAt,
		Trust: h.met(s), Adds: s.Adds, Carries: carries(s.Routes),
	}
}

// carries is what a system may carry; empty, and not nil, is nothing.
func carries(routes []wire.Route) []netip.Prefix {
	out := make([]netip.Prefix, len(routes))
	for i, r := range routes {
		out[i] = r.Shown()
	}
	return out
}

// note keeps what the store says of a policy, and what is to be reported of it.
func (h *hub) note(id wire.PolicyID, p *stored) {
	h.schedulePolicy(id, p)
	if p == nil {
		delete(h.policies, id)
		return
	}
	if old := h.policies[id]; p.warning != "" && (old == nil || old.warning != p.warning) {
		h.refused = append(h.refused, refusal{id, p.warning, p.bad})
	}
	h.policies[id] = p
}

// refusal is a stored policy that does not validate.
type refusal struct {
	id       wire.PolicyID
	warning  string
	problems []wire.Problem
}

// reportRefused names the policies that are not served as they stand, in the log and
// in the activity record. The caller has the turn.
func (h *hub) reportRefused(ctx context.Context, now time.Time) {
	h.mu.Lock()
	refused := h.refused
	h.refused = nil
	h.mu.Unlock()
	for _, r := range refused {
		h.log.Error("a stored policy is not served as it stands", "policy", r.id, "warning", r.warning, "problems", fmt.Sprint(r.problems))
		detail := map[string]any{"warning": r.warning, "problems": r.problems}
		err := h.store.Record(ctx, store.Change{By: "control", At: now}, "policy.refuse", "policy:"+string(r.id), detail)
		if err != nil {
			h.log.Error("the record of a refused policy could not be written", "policy", r.id, "error", err)
		}
	}
}

// warnings lists what is stored and not served as it stands; mu is held.
func (h *hub) warnings() (list []string) {
	for _, p := range h.policies {
		if p.warning != "" {
			list = append(list, p.warning)
		}
	}
	list = append(list, h.unpermitted()...)
	list = append(list, h.tooCrowded()...)
	for _, q := range h.rules.Requirements {
		if q.Broken != "" {
			list = append(list, fmt.Sprintf("requirement %s cannot be read (%s): nothing meets it", q.ID, q.Broken))
		}
	}
	if h.rules.TestsBroken != "" {
		list = append(list, "the tests cannot be read ("+h.rules.TestsBroken+"): none guards a change")
	}
	list = append(list, h.dnsWarnings()...)
	list = append(list, h.clockWarning()...)
	slices.Sort(list)
	return list
}
