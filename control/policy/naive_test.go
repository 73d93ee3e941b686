package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

// world is the evaluator that is right because it is the formulas of the semantics
// written down: no index, no order, no memory of the past.
type world struct {
	systems  map[wire.SystemID]System
	tags     map[wire.Tag][]string
	policies map[wire.PolicyID]wire.Policy

	// What it does remember is the cost of asking package time: zones for good, the
	// hours of policies until they change.
	zones  map[string]*time.Location
	hours  map[hoursAt]bool
	locals map[wire.LocalTime]time.Time
	some   map[string]bool // whether a gateway reaches any probe for a policy
}

type hoursAt struct {
	policy wire.PolicyID
	nano   int64
}

func newWorld() *world {
	return &world{
		systems: map[wire.SystemID]System{}, tags: map[wire.Tag][]string{}, policies: map[wire.PolicyID]wire.Policy{},
		zones: map[string]*time.Location{}, hours: map[hoursAt]bool{}, locals: map[wire.LocalTime]time.Time{}, some: map[string]bool{},
	}
}

func (w *world) put(p wire.Policy) {
	w.policies[p.ID] = p
	w.changed()
}

func (w *world) changed() {
	clear(w.hours)
	clear(w.some)
}

func (w *world) zone(name string) *time.Location {
	if w.zones[name] == nil {
		loc, err := time.LoadLocation(name)
		if err != nil {
			panic(err)
		}
		w.zones[name] = loc
	}
	return w.zones[name]
}

func (w *world) met(s System, all []string, t time.Time) bool {
	for _, r := range all {
		until, ok := s.Trust[r]
		if !ok || (!until.IsZero() && !t.Before(until)) {
			return false
		}
	}
	return true
}

func (w *world) inHours(p wire.Policy, t time.Time) bool {
	if len(p.ActiveHours) == 0 {
		return true
	}
	for _, win := range p.ActiveHours {
		local := t.In(w.zone(win.Zone))
		now := local.Format("15:04")
		today := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}[local.Weekday()]
		yesterday := []string{"sat", "sun", "mon", "tue", "wed", "thu", "fri"}[local.Weekday()]
		if win.Start < win.End {
			if slices.Contains(win.Days, today) && win.Start <= now && now < win.End {
				return true
			}
			continue
		}
		if (slices.Contains(win.Days, today) && win.Start <= now) || (slices.Contains(win.Days, yesterday) && now < win.End) {
			return true
		}
	}
	return false
}

// ends is the expiry of a policy: looked for minute by minute where it is a wall clock.
func (w *world) ends(p wire.Policy) time.Time {
	if p.ExpiresLocal == nil {
		if p.ExpiresAt == nil {
			return time.Time{}
		}
		return *p.ExpiresAt
	}
	if at, known := w.locals[*p.ExpiresLocal]; known {
		return at
	}
	loc, err := time.LoadLocation(p.ExpiresLocal.Zone)
	if err != nil {
		panic(err)
	}
	shown, err := time.Parse(wire.LocalTimeLayout, p.ExpiresLocal.Time)
	if err != nil {
		panic(err)
	}
	t := shown.Add(-16 * time.Hour)
	for t.In(loc).Format(wire.LocalTimeLayout) < p.ExpiresLocal.Time {
		t = t.Add(time.Minute)
	}
	w.locals[*p.ExpiresLocal] = t
	return t
}

func (w *world) active(p wire.Policy, t time.Time) bool {
	if !p.Enabled || over(w.ends(p), t) || len(p.ACLs) == 0 {
		return false
	}
	key := hoursAt{p.ID, t.UnixNano()}
	in, known := w.hours[key]
	if !known {
		in = w.inHours(p, t)
		w.hours[key] = in
	}
	return in
}

func (w *world) counts(s System, t time.Time) bool {
	return s.Approved && s.Enabled && !s.Revoked && (s.ExpiresAt.IsZero() || t.Before(s.ExpiresAt))
}

func (w *world) side(s System, tags []wire.Tag, trust []string, t time.Time) bool {
	for _, g := range tags {
		if slices.Contains(s.Tags, g) && w.met(s, w.tags[g], t) {
			return w.counts(s, t) && w.met(s, trust, t)
		}
	}
	return false
}

func (w *world) pair(a, b System, p wire.Policy, t time.Time) bool {
	if a.ID == b.ID || !w.side(a, p.SenderTags, p.SenderTrust, t) || !w.active(p, t) {
		return false
	}
	if p.Kind == wire.Direct {
		return w.side(b, p.ReceiverTags, p.RecvTrust, t)
	}
	return w.counts(b, t) && w.met(b, p.RecvTrust, t) && w.reachesSome(b, p, "")
}

func (w *world) reachesSome(b System, p wire.Policy, how string) bool {
	key := string(b.ID) + " " + string(p.ID) + " " + how
	some, known := w.some[key]
	if !known {
		some = slices.ContainsFunc(probes(), func(x netip.Addr) bool { return w.reaches(b, p, x) })
		w.some[key] = some
	}
	return some
}

// reaches says whether gateway b carries x for p.
func (w *world) reaches(b System, p wire.Policy, x netip.Addr) bool {
	if slices.ContainsFunc(p.SubnetFilter, func(name string) bool { return x == names.StandIn(name) }) {
		open := p // a name may lead wherever the policy goes without a filter
		open.SubnetFilter = nil
		return w.reachesSome(b, open, "unfiltered")
	}
	for _, bad := range append(never(), DefaultOverlay()...) {
		if bad.Contains(x) {
			return false
		}
	}
	inFilter := len(p.SubnetFilter) == 0
	for _, f := range p.SubnetFilter {
		prefixes, _, _ := parseFilter(f)
		for _, q := range prefixes {
			inFilter = inFilter || q.Contains(x)
		}
	}
	for _, g := range p.Gateways {
		for _, s := range g.Subnets {
			if g.System == b.ID && inFilter && netip.MustParsePrefix(s).Contains(x) && !slices.Contains(b.IPs, x) {
				return true
			}
		}
	}
	return false
}

func matches(a wire.ACL, q Packet) bool {
	return a.Proto == wire.Any || (a.Proto == q.Proto && (a.Ports == nil || a.Ports.Contains(q.DstPort)))
}

func (w *world) owner(a netip.Addr) (System, bool) {
	for _, s := range w.systems {
		if slices.Contains(s.IPs, a) {
			return s, true
		}
	}
	return System{}, false
}

// accept lists every policy and rule that allows the packet to open a flow.
func (w *world) accept(q Packet, t time.Time) (out []match2) {
	a, okA := w.owner(q.Src)
	b, okB := w.owner(q.Dst)
	if !okA || q.Src.Is4() != q.Dst.Is4() {
		return nil
	}
	if okB && w.mutual(a, b, t) {
		out = append(out, match2{Mutual, 0})
	}
	for _, p := range w.policies {
		for i, acl := range p.ACLs {
			if !matches(acl, q) {
				continue
			}
			if okB {
				if p.Kind == wire.Direct && w.pair(a, b, p, t) {
					out = append(out, match2{p.ID, i})
				}
				continue
			}
			for _, g := range w.systems {
				if p.Kind == wire.Gateway && w.pair(a, g, p, t) && w.reaches(g, p, q.Dst) {
					out = append(out, match2{p.ID, i})
				}
			}
		}
	}
	return out
}

// byWhom is Engine.byWhom by the formulas.
func (w *world) byWhom(q Packet, lead netip.Addr, t time.Time) map[wire.SystemID]bool {
	out, named := map[wire.SystemID]bool{}, names.StandIns().Contains(q.Dst)
	a, known := w.owner(q.Src)
	b, direct := w.owner(q.Dst)
	if !known || q.Src.Is4() != q.Dst.Is4() {
		return out
	}
	if direct && w.mutual(a, b, t) {
		out[b.ID] = true
	}
	for _, p := range w.policies {
		if !slices.ContainsFunc(p.ACLs, func(a wire.ACL) bool { return matches(a, q) }) {
			continue
		}
		open := p
		open.SubnetFilter = nil
		for _, g := range w.systems {
			switch {
			case direct && g.ID != b.ID, direct != (p.Kind == wire.Direct), !w.pair(a, g, p, t):
			case direct, w.reaches(g, p, q.Dst) && (!named || w.reaches(g, open, lead)):
				out[g.ID] = true
			}
		}
	}
	return out
}

// copied is the world as it is now.
func (w *world) copied() *world {
	c := newWorld()
	c.systems, c.tags, c.policies, c.zones = maps.Clone(w.systems), maps.Clone(w.tags), maps.Clone(w.policies), w.zones
	return c
}

type match2 struct {
	policy wire.PolicyID
	rule   int
}

// grid is how fine the naive search for edges is; the random worlds keep to it.
const grid = 15 * time.Minute

// instants are those at which anything can change: the grid for sixteen days, which
// covers any week and any change of clocks in it, and every end that is named.
func (w *world) instants(now time.Time) (out []time.Time) {
	for t := now.Truncate(grid).Add(grid); t.Before(now.Add(16 * 24 * time.Hour)); t = t.Add(grid) {
		out = append(out, t)
	}
	note := func(t time.Time) {
		if t.After(now) {
			out = append(out, t)
		}
	}
	for _, s := range w.systems {
		note(s.ExpiresAt)
		for _, m := range s.Trust {
			note(m)
		}
	}
	for _, p := range w.policies {
		note(w.ends(p))
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// mutual is two untagged systems that have added each other.
func (w *world) mutual(a, b System, t time.Time) bool {
	return a.ID != b.ID && len(a.Tags) == 0 && len(b.Tags) == 0 && slices.Contains(a.Adds, b.ID) && slices.Contains(b.Adds, a.ID) &&
		w.counts(a, t) && w.counts(b, t)
}

// pairs is Engine.Pairs by brute force; Subnets are compared apart.
func (w *world) pairs(id wire.SystemID, now, horizon time.Time) []Pair {
	out := []Pair{}
	self, ok := w.systems[id]
	if !ok {
		return nil
	}
	instants := w.instants(now)
	for _, peer := range w.systems {
		introduced := false
		var all []wire.Grant
		for _, p := range w.policies {
			for _, d := range [][2]System{{self, peer}, {peer, self}} {
				all = append(all, w.grants(d[0], d[1], p, now, horizon, instants)...)
				introduced = introduced || w.pair(d[0], d[1], p, now)
			}
		}
		for _, d := range [][2]System{{self, peer}, {peer, self}} {
			all = append(all, w.mutualGrants(d[0], d[1], now, instants)...)
			introduced = introduced || w.mutual(d[0], d[1], now)
		}
		if introduced {
			slices.SortFunc(all, compareGrants)
			out = append(out, Pair{peer.ID, all})
		}
	}
	slices.SortFunc(out, func(a, b Pair) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// order counts the gateways of p, b not among them, that stand before b and carry anything.
func (w *world) order(b System, p wire.Policy) int {
	before := map[wire.SystemID]bool{}
	for _, g := range p.Gateways {
		if g.System == b.ID {
			break
		}
		if w.reachesSome(System{ID: g.System}, p, "in order") {
			before[g.System] = true
		}
	}
	return len(before)
}

func (w *world) grants(a, b System, p wire.Policy, now, horizon time.Time, instants []time.Time) (out []wire.Grant) {
	if a.ID == b.ID {
		return nil
	}
	order := w.order(b, p)
	emit := func(from, to time.Time) {
		for i, acl := range p.ACLs {
			out = append(out, wire.Grant{From: a.ID, To: b.ID, Proto: acl.Proto, Ports: acl.Ports, Policy: p.ID, Rule: i, NotBefore: from, NotAfter: to, Order: order})
		}
	}
	open := w.pair(a, b, p, now)
	var from time.Time
	for _, t := range instants {
		is := w.pair(a, b, p, t)
		switch {
		case is && !open:
			if !t.Before(horizon) {
				return out
			}
			from = t
		case !is && open:
			emit(from, t)
		}
		open = is
	}
	if open {
		emit(from, time.Time{})
	}
	return out
}

func (w *world) mutualGrants(a, b System, now time.Time, instants []time.Time) []wire.Grant {
	if !w.mutual(a, b, now) {
		return nil
	}
	g := wire.Grant{From: a.ID, To: b.ID, Proto: wire.Any, Policy: Mutual}
	if n := slices.IndexFunc(instants, func(t time.Time) bool { return !w.mutual(a, b, t) }); n >= 0 {
		g.NotAfter = instants[n]
	}
	return []wire.Grant{g}
}

// probes are addresses that tell the subnets of the random worlds apart.
func probes() (out []netip.Addr) {
	for _, s := range []string{
		"192.168.1.1", "192.168.1.77", "192.168.2.1", "10.0.0.1", "10.0.0.9", "10.0.0.10", "8.8.8.8",
		"100.64.0.1", "100.127.0.1", "127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255",
		"2001:db8::1", "fd00::1", "::1", "fe80::1", "::ffff:127.0.0.1",
	} {
		out = append(out, netip.MustParseAddr(s))
	}
	return append(out, names.StandIn("files.example.com"))
}
