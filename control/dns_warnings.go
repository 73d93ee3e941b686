package control

import (
	"fmt"
	"net/netip"
	"slices"

	"enclave/wire"
	"enclave/wire/names"
)

// warnings are sentences for who manages names.
type warnings []string

func (w *warnings) add(format string, args ...any) { *w = append(*w, fmt.Sprintf(format, args...)) }

// dnsWarnings tells what of the names is not as somebody will have meant it; mu is held.
func (h *hub) dnsWarnings() []string {
	var list warnings
	carried := make(map[wire.Tag]bool)
	for _, n := range h.nodes {
		for _, t := range n.sys.Tags {
			carried[t] = true
		}
		if n.unnamed > 0 {
			list.add("system %s has %s more than the %d that a map carries: not all are answered", n.sys.ID, wire.Count(n.unnamed, "name"), wire.MaxNamesPerPeer)
		}
		if name := n.sys.Name + "." + h.zone; names.Owner(h.dns.table.Ours, name) != h.zone {
			list.add("zone %s takes the automatic name of system %s (%s): give the zone or the system another name", name, n.sys.Name, n.sys.ID)
		}
	}
	for id, p := range h.policies {
		for _, name := range h.engine.Filtered(id) {
			if z := names.Owner(h.dns.table.Ours, name); z != "" {
				list.add("policy %s %q names %s, which is in our zone %s: no gateway is asked for it", id, p.Name, name, z)
			}
		}
	}
	h.warnOfZones(&list, carried)
	h.warnOfRecords(&list, carried)
	return list
}

// warnOfZones tells what of zones nobody will be answered; carried are the tags that
// systems have.
func (h *hub) warnOfZones(list *warnings, carried map[wire.Tag]bool) {
	for _, z := range h.dns.stored.Zones {
		if z.Broken != "" {
			list.add("zone %s cannot be read (%s): left out", z.Name, z.Broken)
			continue
		}
		for _, t := range z.AutoTags {
			if !carried[t] {
				list.add("zone %s publishes the systems of tag %s, which no system carries: tag one, or \"enclave dns zone update %s\"", z.Name, t, z.Name)
			}
		}
		if z.Forward == nil {
			continue
		}
		for _, id := range z.Forward.Gateways {
			n := h.nodes[id]
			if n == nil {
				list.add("zone %s is forwarded over system %s, which does not exist: \"enclave dns zone update %s --gateway SYSTEM\"", z.Name, id, z.Name)
				continue
			}
			for _, text := range z.Forward.Resolvers {
				at, err := names.ParseResolver(text)
				if err == nil && !slices.ContainsFunc(carries(n.sys.Routes), func(p netip.Prefix) bool { return p.Contains(at.Addr()) }) {
					list.add("zone %s asks %s over gateway %s, which may not carry it: \"enclave system route add %s SUBNET\"", z.Name, at.Addr(), id, id)
				}
			}
		}
	}
}

// warnOfRecords tells the same of records.
func (h *hub) warnOfRecords(list *warnings, carried map[wire.Tag]bool) {
	book := h.dns.stored.Book()
	for _, r := range h.dns.stored.Records {
		if r.Broken != "" {
			list.add("record %s cannot be read (%s): left out", r.Name, r.Broken)
			continue
		}
		if bad := book.CheckNewRecord(&r.Record); len(bad) > 0 {
			list.add("record %s is not served: %s", r.Name, bad[0].Message)
		}
		for _, t := range r.Tags {
			if !carried[t] {
				list.add("record %s names tag %s, which no system carries: tag one, or \"enclave dns record update %s\"", r.Name, t, r.Name)
			}
		}
		for _, id := range r.Systems {
			if h.nodes[id] == nil {
				list.add("record %s names system %s, which does not exist: \"enclave dns record update %s\"", r.Name, id, r.Name)
			}
		}
	}
}
