package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// rules is a policy compiled for evaluation.
type rules struct {
	id       wire.PolicyID
	slot     int
	enabled  bool
	gateway  bool
	tags     [2][]wire.Tag
	trust    [2][]string
	gateways []gateway
	acls     []rule
	expires  time.Time // zero: never
	local    string    // the wall clock behind expires, in brackets to put behind it
	hours    hours
	windows  wire.Windows // what hours were compiled from
	doc      wire.Policy
	next     time.Time // its edge that stands in the queue; zero: none

	// What openingsAt last found, which is right in [since, until) for every horizon up
	// to this one: pairs are asked for by the thousand, each stream at its own instant.
	found struct {
		since, until, horizon time.Time
		list                  []opening
	}
}

// rule is one ACL. Its sentences are made once, so that a verdict costs no memory.
type rule struct {
	proto               wire.Proto
	ports               wire.Ports
	why, reply, icmpErr string
}

func (e *Engine) compile(p *wire.Policy) (*rules, error) {
	h, err := compileHours(p.ActiveHours, e.zone)
	if err != nil {
		return nil, err
	}
	r := &rules{
		id: p.ID, enabled: p.Enabled, gateway: p.Kind == wire.Gateway,
		hours: h, doc: clonePolicy(p),
	}
	r.windows = r.doc.ActiveHours
	r.tags = [2][]wire.Tag{r.doc.SenderTags, r.doc.ReceiverTags}
	r.trust = [2][]string{r.doc.SenderTrust, r.doc.RecvTrust}
	if r.gateway {
		r.gateways = compileGateways(p, e.overlay)
	}
	if r.expires, r.local, err = e.expiry(p); err != nil {
		return nil, err
	}
	for i, a := range r.doc.ACLs {
		text := fmt.Sprintf("policy %s, rule %d (%s)", p.ID, i, ruleText(a.Proto, a.Ports))
		r.acls = append(r.acls, rule{
			proto: a.Proto, ports: a.Ports,
			why:     text + " allows it",
			reply:   "a reply in a flow that " + text + " allows",
			icmpErr: "an ICMP error about a flow that " + text + " allows",
		})
	}
	return r, nil
}

// expiry resolves the end of a policy: here the engine turns wall clocks into instants.
func (e *Engine) expiry(p *wire.Policy) (at time.Time, local string, err error) {
	switch {
	case p.ExpiresLocal != nil:
		zone, err := e.zone(p.ExpiresLocal.Zone)
		if err != nil {
			return at, "", err
		}
		at, err = p.ExpiresLocal.In(zone)
		return at, " (" + p.ExpiresLocal.String() + ")", err
	case p.ExpiresAt != nil:
		at = plain(*p.ExpiresAt)
	}
	return at, "", nil
}

func ruleText(p wire.Proto, ports wire.Ports) string {
	if ports == nil {
		return p.String()
	}
	return p.String() + " " + ports.String()
}

// clonePolicy takes a copy that the caller's later writes do not reach.
func clonePolicy(p *wire.Policy) wire.Policy {
	c := *p
	c.SenderTags, c.ReceiverTags = slices.Clone(p.SenderTags), slices.Clone(p.ReceiverTags)
	c.SenderTrust, c.RecvTrust = slices.Clone(p.SenderTrust), slices.Clone(p.RecvTrust)
	c.ACLs = slices.Clone(p.ACLs)
	for i := range c.ACLs {
		c.ACLs[i].Ports = slices.Clone(c.ACLs[i].Ports)
	}
	c.ActiveHours = slices.Clone(p.ActiveHours)
	for i := range c.ActiveHours {
		c.ActiveHours[i].Days = slices.Clone(c.ActiveHours[i].Days)
	}
	c.Gateways = slices.Clone(p.Gateways)
	for i := range c.Gateways {
		c.Gateways[i].Subnets = slices.Clone(c.Gateways[i].Subnets)
	}
	c.SubnetFilter = slices.Clone(p.SubnetFilter)
	if p.ExpiresLocal != nil {
		local := *p.ExpiresLocal
		c.ExpiresLocal = &local
	}
	return c
}

// lives reports whether the policy counts now or may count later by the clock alone.
func (r *rules) lives(now time.Time) bool {
	return r.enabled && len(r.acls) > 0 && !over(r.expires, now)
}

func (r *rules) active(now time.Time) bool { return r.lives(now) && r.hours.active(now) }

// edge is the first instant after now at which the policy opens, closes or expires.
func (r *rules) edge(now time.Time) time.Time {
	if !r.lives(now) {
		return time.Time{}
	}
	return sooner(r.hours.change(now), r.expires)
}

// opening is a stretch of time in which a policy counts; a zero from has begun.
type opening struct{ from, to time.Time }

// openings appends the stretches that touch [now, horizon), or contain now.
func (r *rules) openings(out []opening, now, horizon time.Time) []opening {
	if !r.lives(now) {
		return out
	}
	open := r.hours.active(now)
	for at, from := now, (time.Time{}); ; at = from {
		end := r.hours.change(at)
		if open {
			out = append(out, opening{from, sooner(end, r.expires)})
		}
		if end.IsZero() || !end.Before(horizon) || over(r.expires, end) {
			return out
		}
		from, open = end, r.hours.active(end)
	}
}

// openingsAt is openings, remembered until the next edge. A nearer horizon sees the
// first of what a further one does.
func (r *rules) openingsAt(now, horizon time.Time) []opening {
	f := &r.found
	if f.list == nil || now.Before(f.since) || over(f.until, now) || f.horizon.Before(horizon) {
		f.horizon = horizon.Add(horizon.Sub(now) / 4) // the next stream may ask a little further
		f.since, f.until, f.list = now, r.edge(now), r.openings(f.list[:0], now, f.horizon)
	}
	n := len(f.list)
	for n > 0 && !f.list[n-1].from.IsZero() && !f.list[n-1].from.Before(horizon) {
		n--
	}
	return f.list[:n]
}

// sameTerms reports whether two versions grant the same to the same sides; who stands
// on the sides is another question.
func (r *rules) sameTerms(o *rules) bool {
	return r.enabled == o.enabled && r.gateway == o.gateway && r.expires.Equal(o.expires) &&
		slices.EqualFunc(r.acls, o.acls, func(a, b rule) bool {
			return a.proto == b.proto && slices.Equal(a.ports, b.ports) && (a.ports == nil) == (b.ports == nil)
		}) &&
		slices.EqualFunc(r.windows, o.windows, func(a, b wire.Window) bool {
			return a.Zone == b.Zone && a.Start == b.Start && a.End == b.End && slices.Equal(a.Days, b.Days)
		}) &&
		r.doc.Priority == o.doc.Priority && slices.EqualFunc(r.gateways, o.gateways, func(a, b gateway) bool {
		return a.id == b.id && slices.Equal(a.reach, b.reach) && slices.Equal(a.names, b.names) && slices.Equal(a.within, b.within)
	})
}

// order is the place of a gateway in the policy's list.
func (r *rules) order(id wire.SystemID) int {
	return slices.IndexFunc(r.gateways, func(g gateway) bool { return g.id == id })
}

// carries returns what the gateway reaches for r: its reach less its own addresses, and
// the addresses that stand for names.
func (r *rules) carries(s *system) []netip.Prefix {
	i := r.order(s.ID)
	if i < 0 {
		return nil
	}
	g := &r.gateways[i]
	reach := permitted(g.reach, s)
	if len(g.answers(s)) > 0 {
		reach = tidy(slices.Concat(reach, g.stand))
	}
	return reach
}
