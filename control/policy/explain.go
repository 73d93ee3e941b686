package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Maximum sizes of an explanation; beyond them the nearest policies are shown.
const (
	maxChains = 16
	maxFixes  = 32
)

// fix is a single change that would allow a denied flow. Its fields name what changes,
// its text says it.
type fix struct {
	kind        string // approve, enable system, extend system, meet, tag, add, add each other, enable, extend, hours, filter, route, rule, policy
	system      wire.SystemID
	peer        wire.SystemID // add, add each other; the gateway of route
	policy      wire.PolicyID
	tag         wire.Tag
	requirement string
	text        string
}

// check is one condition, and when it fails each change that would make it hold. A
// failing check without fixes is not to be mended by one change.
type check struct {
	what, detail string
	ok           bool
	fixes        []fix
}

// Explain says why a flow from one address to another would pass at an instant or not:
// the verdict, the conditions of every policy that comes near, and for a denied flow
// the single changes that would allow it. To is the gateway for what lies behind one.
// The caller adds the names of policies.
func (e *Engine) Explain(src, dst netip.Addr, proto wire.Proto, port uint16, at time.Time) api.Explanation {
	f := Packet{Src: src, Dst: dst, Proto: proto, DstPort: port}
	v := e.Evaluate(f, at)
	out := api.Explanation{Proto: proto, Port: port, At: at, Allow: v.Allow, Policy: v.Policy, Rule: v.Rule, Why: v.Why, To: v.Gateway, Chain: []api.Step{}}
	from, to := e.byAddr[src], e.byAddr[dst]
	if to != nil {
		out.To = to.ID
	}
	if from != nil {
		out.From = from.ID
	}
	if from == to && from != nil {
		return out
	}
	chains := e.chains(from, to, f, at)
	for _, c := range append(e.strangers(f, len(chains) > 0), ends(from, to, at)...) {
		out.Chain = append(out.Chain, c.step(""))
	}
	if from != nil && to != nil && len(chains) == 0 {
		c := check{what: "sender", detail: fmt.Sprintf("no policy names %s as a sender, and none %s as a receiver", from.ID, to.ID)}
		out.Chain = append(out.Chain, c.step(""))
	}
	for i, ch := range chains {
		if i == maxChains {
			break
		}
		for _, c := range ch.checks {
			out.Chain = append(out.Chain, c.step(ch.rules.id))
		}
	}
	if !v.Allow {
		for _, x := range e.fixes(f, at) {
			out.Fixes = append(out.Fixes, x.text)
		}
	}
	return out
}

// strangers are the conditions on the addresses by themselves, those that fail.
func (e *Engine) strangers(f Packet, carried bool) (out []check) {
	if f.Src.Is4() != f.Dst.Is4() {
		out = append(out, check{what: "system", detail: "the addresses are of two families"})
	}
	if e.byAddr[f.Src] == nil {
		out = append(out, check{what: "system", detail: fmt.Sprintf("no system has the address %s", f.Src)})
	}
	if e.byAddr[f.Dst] == nil && !carried {
		out = append(out, check{what: "system", detail: fmt.Sprintf("no system has the address %s, and no gateway carries it", f.Dst)})
		if e.behind(f.Dst) {
			out[len(out)-1].detail = fmt.Sprintf("the address %s is behind a gateway", f.Dst)
		}
	}
	return out
}

// fixes returns the single changes that would allow a flow that is denied at an
// instant, those of the nearest policies first.
func (e *Engine) fixes(f Packet, at time.Time) (out []fix) {
	from, to := e.byAddr[f.Src], e.byAddr[f.Dst]
	if from == nil || from == to || f.Src.Is4() != f.Dst.Is4() {
		return nil
	}
	both := ends(from, to, at)
	for _, ch := range e.chains(from, to, f, at) {
		for _, x := range single(slices.Concat(both, ch.checks)) {
			if !slices.Contains(out, x) && len(out) < maxFixes {
				out = append(out, x)
			}
		}
	}
	if to != nil && from.tagged(at) && to.tagged(at) && !slices.ContainsFunc(both, func(c check) bool { return !c.ok }) {
		out = append(out, fix{kind: "policy", text: fmt.Sprintf("add a policy between tags of %s and %s with a rule for %s", from.ID, to.ID, packetText(f))})
	}
	return out
}

func (c check) step(id wire.PolicyID) api.Step {
	return api.Step{Policy: id, Check: c.what, OK: c.ok, Detail: c.detail}
}

// single returns the fixes of the only check that fails.
func single(checks []check) (out []fix) {
	n := 0
	for _, c := range checks {
		if !c.ok {
			out, n = c.fixes, n+1
		}
	}
	if n != 1 {
		return nil
	}
	return out
}

// ends are the conditions that concern every policy: what counts at either end.
func ends(from, to *system, at time.Time) (out []check) {
	for _, s := range []*system{from, to} {
		if s != nil {
			out = counts(out, s, at)
		}
	}
	return out
}

func counts(out []check, s *system, at time.Time) []check {
	n := len(out)
	add := func(bad bool, detail, kind, text string) {
		if bad {
			out = append(out, check{what: "system", detail: fmt.Sprintf("%s %s", s.ID, detail), fixes: []fix{{kind: kind, system: s.ID, text: fmt.Sprintf(text, s.ID)}}})
		}
	}
	if s.Revoked {
		out = append(out, check{what: "system", detail: fmt.Sprintf("%s is revoked, which is for good", s.ID)})
	}
	add(!s.Approved, "is not approved", "approve", "approve %s")
	add(!s.Enabled, "is disabled", "enable system", "enable %s")
	add(over(s.ExpiresAt, at), "expired at "+s.ExpiresAt.Format(time.RFC3339), "extend system", "extend the life of %s")
	if len(out) == n {
		out = append(out, check{what: "system", ok: true, detail: fmt.Sprintf("%s counts", s.ID)})
	}
	return out
}

// chain is a policy that comes near, and its conditions.
type chain struct {
	rules  *rules
	checks []check
	faults int
}

// chains returns the policies that name either end, or carry the address, and mutual
// adds, the nearest to allowing first.
func (e *Engine) chains(from, to *system, f Packet, at time.Time) (out []chain) {
	if from == nil {
		return nil
	}
	for _, r := range e.policies {
		var gate *system
		near := from.slots[senders].has(r.slot)
		if r.gateway {
			gate = e.carrier(r, from, f.Dst, at)
			near = to == nil && (near || gate != nil)
		} else {
			near = to != nil && (near || to.slots[receivers].has(r.slot))
		}
		if !near {
			continue
		}
		ch := chain{rules: r, checks: e.policyChecks(r, f, at)}
		ch.checks = e.sideChecks(ch.checks, r, from, senders, at)
		if r.gateway {
			c := check{what: "gateway", ok: gate != nil}
			if c.ok {
				c.detail = fmt.Sprintf("%s carries %s", gate.ID, f.Dst)
			} else {
				gate = e.notCarried(&c, r, from, f.Dst)
			}
			if ch.checks = append(ch.checks, c); gate != nil {
				ch.checks = counts(ch.checks, gate, at)
				ch.checks = e.sideChecks(ch.checks, r, gate, receivers, at)
			}
		} else {
			ch.checks = e.sideChecks(ch.checks, r, to, receivers, at)
		}
		out = append(out, ch)
	}
	if to != nil {
		if checks := e.mutualChecks(from, to); checks != nil {
			out = append(out, chain{rules: e.mutual, checks: checks})
		}
	}
	for i, ch := range out {
		for _, c := range ch.checks {
			if !c.ok {
				out[i].faults++
			}
		}
	}
	slices.SortFunc(out, func(a, b chain) int {
		if a.faults != b.faults {
			return a.faults - b.faults
		}
		if a.rules.before(b.rules) {
			return -1
		}
		return 1
	})
	return out
}

// carrier returns the gateway of r that carries an address, one that stands first.
func (e *Engine) carrier(r *rules, from *system, a netip.Addr, at time.Time) (best *system) {
	for i := range r.gateways {
		g := &r.gateways[i]
		s := e.systems[g.id]
		if s == nil || s == from || !g.carries(s, a) {
			continue
		}
		if s.stands(r, receivers, at) {
			return s
		}
		if best == nil {
			best = s
		}
	}
	return best
}

// policyChecks are the conditions of the policy by itself.
func (e *Engine) policyChecks(r *rules, f Packet, at time.Time) (out []check) {
	one := func(what string, ok bool, yes, no, kind, text string) {
		c := check{what: what, ok: ok, detail: yes}
		if !ok {
			c.detail, c.fixes = no, []fix{{kind: kind, policy: r.id, text: fmt.Sprintf(text, r.id)}}
		}
		out = append(out, c)
	}
	one("enabled", r.enabled, "the policy is enabled", "the policy is disabled", "enable", "enable policy %s")
	life := "the policy has no end"
	if !r.expires.IsZero() {
		life = "the policy ends at " + r.expires.Format(time.RFC3339) + r.local
	}
	one("expiry", !over(r.expires, at), life, "the policy expired at "+r.expires.Format(time.RFC3339)+r.local, "extend", "extend policy %s")
	if r.hours != nil {
		until, next := "for ever", "they never begin again"
		if edge := r.hours.change(at); !edge.IsZero() {
			until, next = "until "+edge.Format(time.RFC3339), "they begin at "+edge.Format(time.RFC3339)
		}
		one("hours", r.hours.active(at), "inside active hours "+until, "outside active hours ("+hoursText(r.windows)+"); "+next, "hours", "widen the active hours of policy %s")
	}
	rule := r.find(f, false)
	text := ""
	if rule >= 0 {
		text = fmt.Sprintf("rule %d (%s) matches", rule, ruleText(r.acls[rule].proto, r.acls[rule].ports))
	}
	one("rule", rule >= 0, text, "no rule matches "+packetText(f)+": "+r.rulesText(), "rule", "add a rule for "+packetText(f)+" to policy %s")
	return out
}

// sideChecks are the conditions of one system on one side: a tag that counts, and trust.
func (e *Engine) sideChecks(out []check, r *rules, s *system, side int, at time.Time) []check {
	what := [...]string{senders: "sender", receivers: "receiver"}[side]
	if !r.gateway || side == senders {
		out = append(out, e.tagCheck(r, s, side, what, at))
	}
	for _, q := range r.trust[side] {
		c := check{what: "trust", ok: s.met(q, at), detail: fmt.Sprintf("%s %s meets %q", what, s.ID, q)}
		if !c.ok {
			c.detail = fmt.Sprintf("%s %s does not meet %q", what, s.ID, q)
			if until, once := s.Trust[q]; once {
				c.detail = fmt.Sprintf("%s %s met %q until %s", what, s.ID, q, until.Format(time.RFC3339))
			}
			c.fixes = []fix{meet(s, q)}
		}
		out = append(out, c)
	}
	return out
}

// tagged reports whether some tag of s counts, so that a policy could name it.
func (s *system) tagged(at time.Time) bool {
	return slices.ContainsFunc(s.tags, func(t *tag) bool { return len(s.unmet(t, at)) == 0 })
}

func meet(s *system, q string) fix {
	return fix{kind: "meet", system: s.ID, requirement: q, text: fmt.Sprintf("let %s meet %q", s.ID, q)}
}

// met reports whether s meets one requirement at an instant.
func (s *system) met(q string, at time.Time) bool {
	until, ok := s.Trust[q]
	return ok && !over(until, at)
}

func (s *system) unmet(t *tag, at time.Time) (out []string) {
	for _, q := range t.trust {
		if !s.met(q, at) {
			out = append(out, q)
		}
	}
	return out
}

func (e *Engine) tagCheck(r *rules, s *system, side int, what string, at time.Time) check {
	c := check{what: what}
	var missing []string
	for _, name := range r.tags[side] {
		t := e.tags[name]
		_, has := t.members[s]
		unmet := s.unmet(t, at)
		switch {
		case has && len(unmet) == 0:
			return check{what: what, ok: true, detail: fmt.Sprintf("%s carries tag %s", s.ID, name)}
		case has:
			missing = append(missing, fmt.Sprintf("tag %s requires %s", name, strings.Join(unmet, " and ")))
			if len(unmet) == 1 {
				c.fixes = append(c.fixes, meet(s, unmet[0]))
			}
		case len(unmet) == 0:
			c.fixes = append(c.fixes, fix{kind: "tag", system: s.ID, tag: name, text: fmt.Sprintf("give %s the tag %s", s.ID, name)})
		}
	}
	c.detail = fmt.Sprintf("%s carries none of the policy's %s tags", s.ID, what)
	if missing != nil {
		c.detail = fmt.Sprintf("the tags of %s do not count: %s", s.ID, strings.Join(missing, ", "))
	}
	return c
}
