package control

import (
	"fmt"
	"net/netip"
	"regexp"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

// people says what people call things: systems and policies have IDs that nobody knows by
// heart. It is for one answer, with hub.mu held throughout.
type people struct {
	h     *hub
	count map[string]int // systems of one name; nil is not counted yet
}

func (h *hub) people() *people { return &people{h: h} }

// system is the name of a system, with its ID where another has the name, too.
func (p *people) system(id wire.SystemID) string {
	n := p.h.nodes[id]
	if n == nil || n.sys.Name == "" {
		return string(id)
	}
	if p.count == nil {
		p.count = make(map[string]int, len(p.h.nodes))
		for _, n := range p.h.nodes {
			p.count[n.sys.Name]++
		}
	}
	if p.count[n.sys.Name] > 1 {
		return fmt.Sprintf("%s (%s)", n.sys.Name, id)
	}
	return n.sys.Name
}

func (p *people) pair(from, to wire.SystemID) [2]string {
	return [2]string{p.system(from), p.system(to)}
}

// policy is the name of a policy, or its ID when it has none.
func (p *people) policy(id wire.PolicyID) string {
	if s := p.h.policies[id]; s != nil && s.Name != "" {
		return s.Name
	}
	return string(id)
}

// words finds what can be an ID in a sentence of the policy engine.
var words = regexp.MustCompile(`(policy )?\b[0-9a-z]+\b`)

// say puts names for IDs in a sentence: after "policy" that of a policy, and those of the
// systems that it may be about. Any other word stays, whatever some system is called.
func (p *people) say(text string, about map[wire.SystemID]bool) string {
	return words.ReplaceAllStringFunc(text, func(w string) string {
		if len(w) > len("policy ") && w[:len("policy ")] == "policy " {
			if s := p.h.policies[wire.PolicyID(w[len("policy "):])]; s != nil && s.Name != "" {
				return fmt.Sprintf("policy %q", s.Name)
			}
			return w
		}
		if about[wire.SystemID(w)] {
			return p.system(wire.SystemID(w))
		}
		return w
	})
}

// explanation puts names into an explanation.
func (p *people) explanation(x *api.Explanation) {
	about := map[wire.SystemID]bool{x.From: true, x.To: true}
	delete(about, "")
	for i := range x.Chain {
		s := p.h.policies[x.Chain[i].Policy]
		if s == nil {
			continue
		}
		x.Chain[i].Name = s.Name
		if s.served != nil {
			for _, g := range s.served.Gateways {
				about[g.System] = true
			}
		}
	}
	x.Names = make(map[string]string, len(about))
	for id := range about {
		x.Names[string(id)] = p.system(id)
	}
	x.Why = p.say(x.Why, about)
	for i := range x.Chain {
		x.Chain[i].Detail = p.say(x.Chain[i].Detail, about)
	}
	for i := range x.Fixes {
		x.Fixes[i] = p.say(x.Fixes[i], about)
	}
}

func (p *people) access(list []api.Access) {
	for i := range list {
		a := &list[i]
		a.Names, a.PolicyName = p.pair(a.From, a.To), p.policy(a.Policy)
	}
}

func (p *people) flows(list []api.LiveFlow) {
	for i := range list {
		f := &list[i]
		f.Names, f.PolicyName = p.pair(f.From, f.To), p.policy(f.Policy)
		if s := p.h.policies[f.Policy]; s != nil && s.served != nil && s.served.Kind == wire.Gateway {
			f.Names[1] = p.behind(f.Policy, f.Dst.Addr()) + " behind " + f.Names[1]
		}
	}
}

// behind is what a policy calls an address behind a gateway: a name that it stands for, or
// itself.
func (p *people) behind(id wire.PolicyID, a netip.Addr) string {
	if names.StandIns().Contains(a) {
		for _, name := range p.h.engine.Filtered(id) {
			if names.StandIn(name) == a {
				return name
			}
		}
	}
	return a.String()
}
