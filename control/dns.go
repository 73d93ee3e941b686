package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/control/discovery"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

// dns is what the hub has of names.
type dns struct {
	stored store.DNS
	table  *names.Table
}

func newDNS(d store.DNS) dns { return dns{d, names.Compile(d.Book())} }

// call gives a node the names that it answers to; mu is held.
func (h *hub) call(n *node) {
	n.names, n.unnamed = h.dns.table.Of(n.sys.ID, n.sys.Name, n.sys.Tags)
	n.forwards = h.dns.table.Forwards(n.sys.ID)
}

// rebook brings every node to what is stored of names, and returns whose maps show a
// difference; mu is held.
func (h *hub) rebook(d store.DNS, now time.Time, cause string) (affected []wire.SystemID) {
	zones := h.dns.table.Ours
	h.dns = newDNS(d)
	for id, n := range h.nodes {
		before := n.entry
		h.call(n)
		n.refresh(now)
		if !discovery.SameToPeers(before, n.entry) {
			peers := h.engine.Peers(id, now)
			h.show(id, peers, cause)
			affected = append(affected, peers...)
		}
	}
	if !slices.Equal(zones, h.dns.table.Ours) { // everybody is told which zones are ours
		for id := range h.nodes {
			affected = append(affected, id)
		}
	}
	return affected
}

// Resolve implements admin.Answers: what a name stands for, for the system as, and why.
// It asks the same function as that system's agent does, of what its map would say.
func (h *hub) Resolve(name string, as wire.SystemID, now time.Time) (out api.Resolution) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out = api.Resolution{Name: name, As: as, At: now, Systems: []api.Resolved{}}
	n := h.nodes[as]
	if n == nil {
		out.Kind, out.Why = names.Outside.String(), "there is no such asker"
		return out
	}
	people := h.people()
	out.AsName = people.system(as)
	v := discovery.View{Org: h.org, Zone: h.zone, Zones: h.dns.table.Ours, Self: n.entry}
	self := *n.entry
	self.State = n.sys.State(now)
	v.Self = &self
	for _, pair := range h.engine.Pairs(as, now, now) {
		if p := h.nodes[pair.Peer]; p != nil && len(pair.Grants) > 0 {
			v.Introduced = append(v.Introduced, discovery.Introduction{Peer: p.entry, Grants: pair.Grants})
		}
	}
	m := v.Map()
	view := names.New(h.zone, m.DNS, m.Peers)
	answer := view.Lookup([]byte(name), now)
	out.Kind, out.Zone, out.Wildcard = answer.Kind.String(), answer.Zone, answer.Wildcard
	for _, p := range answer.In(now) {
		out.Systems = append(out.Systems, api.Resolved{ID: p.ID, Name: p.Name, IPv4: p.IPv4, IPv6: p.IPv6})
	}
	for _, w := range answer.Ways {
		for _, r := range w.Resolvers {
			out.Resolvers = append(out.Resolvers, api.Via{Gateway: w.Gateway.ID, Resolver: r})
		}
	}
	if answer.Kind == names.Behind {
		out.Addresses = []netip.Addr{names.StandIn(name)}
		for _, p := range view.Leading(name, now) {
			out.Gateways = append(out.Gateways, p.ID)
		}
	}
	out.Why = h.whyName(&out, self.Counts(), people)
	return out
}

// whyName says in sentences how an answer came to be; mu is held.
func (h *hub) whyName(r *api.Resolution, counts bool, people *people) string {
	if !counts {
		return r.AsName + " is not approved and enabled: it knows nobody"
	}
	var s []string
	rec, auto := h.recordFor(r)
	switch {
	case rec != nil:
		targets, met := h.targets(rec), 0
		for _, id := range targets {
			if slices.ContainsFunc(r.Systems, func(x api.Resolved) bool { return x.ID == id }) {
				met++
			}
		}
		s = append(s, fmt.Sprintf("record %s targets %s; %s is connected to %d of them", rec.Name, wire.Count(len(targets), "system"), r.AsName, met))
	case auto != "":
		s = append(s, auto)
	}
	switch r.Kind {
	case names.Found.String():
		if len(r.Systems) > 1 {
			s = append(s, fmt.Sprintf("each answer is one of the %d at random, with TTL 0", len(r.Systems)))
		}
	case names.Empty.String():
		s = append(s, "the name exists, as a zone or above other names, and has no address: NODATA")
	case names.Missing.String():
		s = append(s, fmt.Sprintf("zone %s is ours and, for %s, has no such name: NXDOMAIN", r.Zone, r.AsName))
	case names.Behind.String():
		s = append(s, "the name is in the subnet filter of a gateway policy: the gateway resolves it, and this address stands for it on the overlay")
	case names.Forwarded.String():
		s = append(s, fmt.Sprintf("zone %s is forwarded: one of the resolvers is asked through its gateway", r.Zone))
	default:
		text := "the name is in no zone of ours"
		if z := h.forwardedZone(r.Name); z != "" {
			text = fmt.Sprintf("zone %s is forwarded, and no policy lets %s reach a resolver of it through a gateway", z, r.AsName)
		}
		s = append(s, text+": SERVFAIL, so that a client asks its next resolver")
	}
	return strings.Join(s, "; ")
}

// recordFor is the record that an answer comes from, or would for another asker; else a
// sentence about the automatic name.
func (h *hub) recordFor(r *api.Resolution) (*wire.Record, string) {
	find := func(name string) *wire.Record {
		if rec, err := h.dns.stored.Record(name); err == nil && rec.Broken == "" {
			return &rec.Record
		}
		return nil
	}
	if !r.Wildcard {
		if rec := find(r.Name); rec != nil {
			return rec, ""
		}
	}
	label, rest, _ := strings.Cut(r.Name, ".")
	if !r.Wildcard {
		if id, ok := strings.CutSuffix(r.Name, ".id."+h.zone); ok && h.nodes[wire.SystemID(id)] != nil {
			return nil, "the name that system " + id + " always has"
		}
		if len(h.named[label]) > 0 && (rest == h.zone || slices.Contains(h.dns.table.Ours, rest)) {
			return nil, fmt.Sprintf("automatic name of %s called %s", wire.Count(len(h.named[label]), "system"), label)
		}
	}
	for ; rest != ""; _, rest, _ = strings.Cut(rest, ".") {
		if rec := find("*." + rest); rec != nil {
			return rec, ""
		}
	}
	return nil, ""
}

// targets lists the systems that a record targets.
func (h *hub) targets(r *wire.Record) (ids []wire.SystemID) {
	for id, n := range h.nodes {
		if slices.Contains(r.Systems, id) || slices.ContainsFunc(r.Tags, func(t wire.Tag) bool { return slices.Contains(n.sys.Tags, t) }) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (h *hub) forwardedZone(name string) string {
	var zones []string
	for _, z := range h.dns.stored.Zones {
		if z.Forward != nil {
			zones = append(zones, z.Name)
		}
	}
	return names.Owner(zones, name)
}
