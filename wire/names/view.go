package names

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// View is what the names of one system's map stand for. It is immutable.
type View struct {
	base  string // zone of the automatic names
	zones map[string]*zone
	exact map[string][]*wire.Peer // nil is a name with names below it and no systems
	wild  map[string][]*wire.Peer // by what follows "*."
	far   map[string][]*wire.Peer // names behind gateways, by those that resolve them
}

// zone is ours or, with ways, somebody else's.
type zone struct {
	name string
	ways []Way // none: it is ours
}

// Way is one way to ask about a zone that is not ours.
type Way struct {
	Gateway   *wire.Peer
	Resolvers []netip.AddrPort
}

// New makes the view of a system whose automatic names are in base, which it is in
// force with peers. Both are kept and must not change.
func New(base string, dns wire.DNS, peers []wire.Peer) *View {
	v := &View{base: base, zones: make(map[string]*zone), exact: make(map[string][]*wire.Peer, 2*len(peers)), wild: make(map[string][]*wire.Peer)}
	if base != "" {
		v.zones[base] = &zone{name: base}
	}
	for _, z := range dns.Zones {
		v.zones[z] = &zone{name: z}
	}
	for i := range peers {
		p := &peers[i]
		for _, f := range p.Forwards {
			z := v.zones[f.Zone]
			if z == nil {
				z = &zone{name: f.Zone}
				v.zones[f.Zone] = z
			} else if len(z.ways) == 0 {
				continue // ours is ours, whatever else is said
			}
			z.ways = append(z.ways, Way{p, f.Resolvers})
		}
	}
	for i := range peers {
		v.addPeer(&peers[i])
		v.addFar(&peers[i])
	}
	for name := range v.zones {
		if _, there := v.exact[name]; !there {
			v.exact[name] = nil
		}
	}
	return v
}

func (v *View) addPeer(p *wire.Peer) {
	if v.base != "" {
		v.add(string(p.ID)+".id."+v.base, p)
		if p.Names == nil { // as an older control plane has it
			v.add(p.Name+"."+v.base, p)
		}
	}
	for _, n := range p.Names {
		if suffix, ok := strings.CutPrefix(n, "*."); ok {
			v.wild[suffix] = append(v.wild[suffix], p)
			continue
		}
		v.add(n, p)
	}
}

// add puts a peer under a name. The names between it and its zone exist from then on
// (RFC 8020), also those that stand for nobody.
func (v *View) add(name string, p *wire.Peer) {
	if list := v.exact[name]; len(list) > 0 && list[len(list)-1] == p {
		return
	}
	v.exact[name] = append(v.exact[name], p)
	for {
		_, above, ok := strings.Cut(name, ".")
		if !ok {
			return
		}
		if _, there := v.exact[above]; there {
			return
		}
		v.exact[above] = nil
		name = above
	}
}

// addFar puts a gateway under the names that its grants let the asker reach.
func (v *View) addFar(p *wire.Peer) {
	for i := range p.Grants {
		if p.Grants[i].To != p.ID {
			continue
		}
		for _, n := range p.Grants[i].Names {
			if v.far == nil {
				v.far = make(map[string][]*wire.Peer)
			}
			if list := v.far[n]; len(list) == 0 || list[len(list)-1] != p {
				v.far[n] = append(list, p)
			}
		}
	}
}

// leads reports whether a grant that counts at now lets the asker reach name behind p.
func leads(p *wire.Peer, name []byte, now time.Time) bool {
	for i := range p.Grants {
		g := &p.Grants[i]
		if g.To != p.ID || !g.ActiveAt(now) {
			continue
		}
		for _, n := range g.Names {
			if n == string(name) {
				return true
			}
		}
	}
	return false
}

// Kind says what came of a lookup.
type Kind uint8

// What can come of a lookup.
const (
	Outside   Kind = iota // in no zone of ours, and nobody is there to ask
	Found                 // Systems has one or more
	Empty                 // the name exists and stands for nobody
	Missing               // in a zone of ours, and it does not exist
	Forwarded             // in the zone of somebody else, to be asked over Ways
	Behind                // behind a gateway, which resolves it: StandIn is its address here
)

func (k Kind) String() string {
	return [...]string{"outside", "found", "empty", "missing", "forwarded", "behind"}[k]
}

// Answer is what a name stands for. Its slices belong to the view; of Systems only
// those count that In says do.
type Answer struct {
	Kind     Kind
	Zone     string // that owns the name
	Wildcard bool   // no name of its own: a "*" answers
	Systems  []*wire.Peer
	Ways     []Way
}

// Counts reports whether the asker is connected to p at now.
func Counts(p *wire.Peer, now time.Time) bool {
	for i := range p.Grants {
		if p.Grants[i].ActiveAt(now) {
			return true
		}
	}
	return false
}

// Lookup says what a name stands for at now. The name is lower case, without a final
// dot. It does not allocate.
func (v *View) Lookup(name []byte, now time.Time) Answer {
	z := v.zoneOf(name)
	if z == nil || len(z.ways) > 0 { // ours is ours, whatever a policy names
		for _, p := range v.far[string(name)] {
			if leads(p, name, now) {
				return Answer{Kind: Behind}
			}
		}
	}
	switch {
	case z == nil:
		return Answer{}
	case len(z.ways) > 0:
		return Answer{Kind: Forwarded, Zone: z.name, Ways: z.ways}
	}
	found, exists := v.exact[string(name)]
	if anyCounts(found, now) {
		return Answer{Kind: Found, Zone: z.name, Systems: found}
	}
	if !exists || len(found) > 0 { // what stands for nobody at now is not there
		exists = exists && v.isZone(name)
		if list := v.wildcard(name, len(z.name), now); list != nil {
			return Answer{Kind: Found, Zone: z.name, Wildcard: true, Systems: list}
		}
	}
	if exists {
		return Answer{Kind: Empty, Zone: z.name}
	}
	return Answer{Kind: Missing, Zone: z.name}
}

func (v *View) isZone(name []byte) bool { return v.zones[string(name)] != nil }

// zoneOf returns the longest zone that owns name.
func (v *View) zoneOf(name []byte) *zone {
	for rest := name; len(rest) > 0; rest = above(rest) {
		if z := v.zones[string(rest)]; z != nil {
			return z
		}
	}
	return v.zones["."]
}

// wildcard returns the systems of the nearest "*" above name and not above its zone.
func (v *View) wildcard(name []byte, zone int, now time.Time) []*wire.Peer {
	if len(v.wild) == 0 {
		return nil
	}
	for rest := above(name); len(rest) >= zone && len(rest) > 0; rest = above(rest) {
		if list := v.wild[string(rest)]; anyCounts(list, now) {
			return list
		}
	}
	return nil
}

// above cuts the first label off.
func above(name []byte) []byte {
	for i, c := range name {
		if c == '.' {
			return name[i+1:]
		}
	}
	return nil
}

func anyCounts(list []*wire.Peer, now time.Time) bool {
	for _, p := range list {
		if Counts(p, now) {
			return true
		}
	}
	return false
}

// Pick returns one of the systems that count at now, by draw, which returns a number
// below its argument; nil when none does. It does not allocate.
func (a *Answer) Pick(now time.Time, draw func(int) int) *wire.Peer {
	n := 0
	for _, p := range a.Systems {
		if Counts(p, now) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	n = draw(n)
	for _, p := range a.Systems {
		if Counts(p, now) {
			if n == 0 {
				return p
			}
			n--
		}
	}
	return nil
}

// In returns the systems that count at now.
func (a *Answer) In(now time.Time) (list []*wire.Peer) {
	for _, p := range a.Systems {
		if Counts(p, now) {
			list = append(list, p)
		}
	}
	return list
}

// Leading returns the gateways that resolve name for the asker at now.
func (v *View) Leading(name string, now time.Time) (list []*wire.Peer) {
	for _, p := range v.far[name] {
		if leads(p, []byte(name), now) {
			list = append(list, p)
		}
	}
	return list
}

// Zones lists the zones of the view that are ours, and those that are forwarded.
func (v *View) Zones() (ours, forwarded []string) {
	for name, z := range v.zones {
		if len(z.ways) == 0 {
			ours = append(ours, name)
		} else {
			forwarded = append(forwarded, name)
		}
	}
	slices.Sort(ours)
	slices.Sort(forwarded)
	return ours, forwarded
}
