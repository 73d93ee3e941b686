package names

import (
	"net/netip"
	"slices"

	"enclave/wire"
)

// Table is a book compiled: which names each system answers to, whoever asks.
type Table struct {
	Base     string
	Ours     []string // zones, sorted
	exact    map[string]bool
	auto     map[wire.Tag][]string // zones that publish the host names of a tag
	byTag    map[wire.Tag][]string
	bySystem map[wire.SystemID][]string
	forwards map[wire.SystemID][]wire.Forward
}

// Compile makes a table of a book. What does not check is left out.
func Compile(b *Book) *Table {
	t := &Table{
		Base: b.Base, Ours: []string{b.Base}, exact: make(map[string]bool), auto: make(map[wire.Tag][]string),
		byTag: make(map[wire.Tag][]string), bySystem: make(map[wire.SystemID][]string), forwards: make(map[wire.SystemID][]wire.Forward),
	}
	for i := range b.Zones {
		z := &b.Zones[i]
		if z.Forward != nil {
			t.forward(z)
			continue
		}
		t.Ours = append(t.Ours, z.Name)
		for _, tag := range z.AutoTags {
			t.auto[tag] = append(t.auto[tag], z.Name)
		}
	}
	slices.Sort(t.Ours)
	t.Ours = slices.Compact(t.Ours)
	for i := range b.Records {
		r := &b.Records[i]
		if len(b.CheckNewRecord(r)) > 0 {
			continue
		}
		t.exact[r.Name] = true
		for _, tag := range r.Tags {
			t.byTag[tag] = append(t.byTag[tag], r.Name)
		}
		for _, id := range r.Systems {
			t.bySystem[id] = append(t.bySystem[id], r.Name)
		}
	}
	return t
}

func (t *Table) forward(z *wire.Zone) {
	f := wire.Forward{Zone: z.Name}
	for _, text := range z.Forward.Resolvers {
		if at, err := ParseResolver(text); err == nil {
			f.Resolvers = append(f.Resolvers, at)
		}
	}
	for _, id := range z.Forward.Gateways {
		t.forwards[id] = append(t.forwards[id], f)
	}
}

// Of returns the names that a system answers to, sorted, and how many more there are
// than a map may carry. A record beats an automatic name: who has only the latter does
// not have it then (docs/decisions/0145).
func (t *Table) Of(id wire.SystemID, host string, tags []wire.Tag) (list []string, more int) {
	list = append(make([]string, 0, 4), t.bySystem[id]...)
	auto := func(zone string) {
		name := host + "." + zone
		// A zone of that very name, or a longer one, owns it.
		if host != "" && !t.exact[name] && Owner(t.Ours, name) == zone {
			list = append(list, name)
		}
	}
	auto(t.Base)
	for _, tag := range tags {
		list = append(list, t.byTag[tag]...)
		for _, zone := range t.auto[tag] {
			auto(zone)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if more = len(list) - wire.MaxNamesPerPeer; more > 0 {
		return list[:wire.MaxNamesPerPeer:wire.MaxNamesPerPeer], more
	}
	return list, 0
}

// Forwards returns the zones that a system, as a gateway, leads to the resolvers of.
func (t *Table) Forwards(id wire.SystemID) []wire.Forward { return t.forwards[id] }

// Told returns those of a gateway's forwards that the grants of an asker reach, with
// the resolvers that they reach: what policy keeps from a system is not named to it.
func Told(all []wire.Forward, grants []wire.Grant, asker wire.SystemID) (told []wire.Forward) {
	for _, f := range all {
		one := wire.Forward{Zone: f.Zone}
		for _, r := range f.Resolvers {
			if reaches(grants, asker, r) {
				one.Resolvers = append(one.Resolvers, r)
			}
		}
		if len(one.Resolvers) > 0 {
			told = append(told, one)
		}
	}
	return told
}

func reaches(grants []wire.Grant, asker wire.SystemID, r netip.AddrPort) bool {
	return slices.ContainsFunc(grants, func(g wire.Grant) bool {
		if g.From != asker || g.Proto == wire.ICMP {
			return false
		}
		inside := false
		for _, s := range g.Subnets {
			inside = inside || s.Contains(r.Addr())
		}
		return inside && (g.Ports == nil || g.Ports.Contains(r.Port()))
	})
}
