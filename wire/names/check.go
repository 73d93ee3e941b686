package names

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"enclave/wire"
)

// CheckZone brings a zone to the form in which it is kept and returns every mistake.
func CheckZone(z *wire.Zone) (bad []wire.Problem) {
	add := func(path, format string, args ...any) {
		bad = append(bad, wire.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	if z.Name != "." {
		name, err := Parse(z.Name)
		if err != nil {
			add("name", "%v", err)
		} else {
			z.Name = name
		}
	} else if z.Forward == nil {
		add("name", "the root is nobody's: it can only be forwarded")
	}
	if len(z.Notes) > wire.MaxNotesLen {
		add("notes", "%d bytes, at most %d", len(z.Notes), wire.MaxNotesLen)
	}
	bad = append(bad, checkTags("auto_tags", z.AutoTags)...)
	if z.Forward == nil {
		return bad
	}
	if len(z.AutoTags) > 0 {
		add("auto_tags", "a zone that is forwarded has no names of ours")
	}
	f := z.Forward
	bad = append(bad, checkSystems("forward.gateways", f.Gateways, wire.MaxResolvers)...)
	if len(f.Gateways) == 0 {
		add("forward.gateways", "name at least one gateway")
	}
	if len(f.Resolvers) == 0 || len(f.Resolvers) > wire.MaxResolvers {
		add("forward.resolvers", "want 1 to %d resolvers, not %d", wire.MaxResolvers, len(f.Resolvers))
	}
	for i, r := range f.Resolvers {
		at, err := ParseResolver(r)
		if err != nil {
			add(fmt.Sprintf("forward.resolvers[%d]", i), "%v", err)
			continue
		}
		if f.Resolvers[i] = at.String(); slices.Contains(f.Resolvers[:i], at.String()) {
			add(fmt.Sprintf("forward.resolvers[%d]", i), "%s is given twice", at)
		}
	}
	return bad
}

// ParseResolver reads ADDRESS or ADDRESS:PORT; the port is 53 when it is left out.
func ParseResolver(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		a, e := netip.ParseAddr(s)
		if e != nil {
			return at, fmt.Errorf("%.60q: want an address, or address:port", s)
		}
		at = netip.AddrPortFrom(a, 53)
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if a := at.Addr(); !a.IsGlobalUnicast() || a.Zone() != "" || at.Port() == 0 {
		return at, fmt.Errorf("%s: want an address behind the gateway: no loopback, link-local or multicast one", s)
	}
	return at, nil
}

// CheckRecord is CheckZone for a record.
func CheckRecord(r *wire.Record) (bad []wire.Problem) {
	add := func(path, format string, args ...any) {
		bad = append(bad, wire.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	name, err := ParsePattern(r.Name)
	if err != nil {
		add("name", "%v", err)
	} else {
		r.Name = name
	}
	if len(r.Notes) > wire.MaxNotesLen {
		add("notes", "%d bytes, at most %d", len(r.Notes), wire.MaxNotesLen)
	}
	bad = append(bad, checkTags("tags", r.Tags)...)
	bad = append(bad, checkSystems("systems", r.Systems, wire.MaxTargets)...)
	if len(r.Tags)+len(r.Systems) == 0 {
		add("tags", "a record needs a target: a tag or a system")
	}
	return bad
}

func checkTags(path string, tags []wire.Tag) (bad []wire.Problem) {
	if len(tags) > wire.MaxTargets {
		return []wire.Problem{{Path: path, Message: fmt.Sprintf("%d tags, at most %d", len(tags), wire.MaxTargets)}}
	}
	for i, t := range tags {
		at := fmt.Sprintf("%s[%d]", path, i)
		if _, err := wire.ParseTag(string(t)); err != nil {
			bad = append(bad, wire.Problem{Path: at, Message: err.Error()})
		} else if slices.Contains(tags[:i], t) {
			bad = append(bad, wire.Problem{Path: at, Message: fmt.Sprintf("%s is given twice", t)})
		}
	}
	return bad
}

func checkSystems(path string, ids []wire.SystemID, most int) (bad []wire.Problem) {
	if len(ids) > most {
		return []wire.Problem{{Path: path, Message: fmt.Sprintf("%d systems, at most %d", len(ids), most)}}
	}
	for i, id := range ids {
		at := fmt.Sprintf("%s[%d]", path, i)
		if _, err := wire.ParseSystemID(string(id)); err != nil {
			bad = append(bad, wire.Problem{Path: at, Message: err.Error()})
		} else if slices.Contains(ids[:i], id) {
			bad = append(bad, wire.Problem{Path: at, Message: fmt.Sprintf("%s is given twice", id)})
		}
	}
	return bad
}

// Book is everything that an organisation says of names. Its zones do not hold the base,
// which is there by itself; a zone of its name would say more of it (notes, for one).
type Book struct {
	Base    string // the zone of the automatic names of all systems
	Zones   []wire.Zone
	Records []wire.Record
}

// zoneNames lists every zone, the base among them.
func (b *Book) zoneNames() []string {
	list := []string{b.Base}
	for i := range b.Zones {
		list = append(list, b.Zones[i].Name)
	}
	return list
}

// CheckNewZone says why a zone cannot join the book: it would take names away that
// somebody has.
func (b *Book) CheckNewZone(z *wire.Zone) (bad []wire.Problem) {
	add := func(format string, args ...any) {
		bad = append(bad, wire.Problem{Path: "name", Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case z.Name == b.Base && z.Forward != nil:
		add("zone %s holds the names of the systems: it cannot be forwarded", b.Base)
	case z.Name == "id."+b.Base || Within(z.Name, "id."+b.Base):
		add("zone %s would shadow the names ID.id.%s that every system has", z.Name, b.Base)
	case z.Name != b.Base && Within(b.Base, z.Name) && z.Forward == nil:
		// The base is longer and keeps its names; nothing is lost.
	}
	for i := range b.Records {
		name := b.Records[i].Name
		was := Owner(b.zoneNames(), strings.TrimPrefix(name, "*."))
		if was != z.Name && Within(strings.TrimPrefix(name, "*."), z.Name) && (was == "" || len(z.Name) > len(was)) {
			add("zone %s would shadow record %s of zone %s: delete the record first", z.Name, name, was)
			if len(bad) == maxShadowed {
				break
			}
		}
	}
	return bad
}

// maxShadowed is how many shadowed records one refusal names.
const maxShadowed = 20

// CheckNewRecord says why a record cannot join the book.
func (b *Book) CheckNewRecord(r *wire.Record) (bad []wire.Problem) {
	add := func(format string, args ...any) {
		bad = append(bad, wire.Problem{Path: "name", Message: fmt.Sprintf(format, args...)})
	}
	bare := strings.TrimPrefix(r.Name, "*.")
	owner := Owner(b.zoneNames(), bare)
	if i := slices.IndexFunc(b.Zones, func(z wire.Zone) bool { return z.Name == owner }); owner == "" || owner == "." {
		add("%s is in no zone: create one first", r.Name)
	} else if i >= 0 && b.Zones[i].Forward != nil {
		add("%s is in zone %s, which is forwarded: it has no records of ours", r.Name, owner)
	}
	if Within(bare, "id."+b.Base) {
		add("%s is among the names ID.id.%s that every system has", r.Name, b.Base)
	}
	return bad
}
