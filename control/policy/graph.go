package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

// Graph returns who may open what to whom at an instant. The caller adds names.
func (e *Engine) Graph(at time.Time) api.Graph { return e.GraphOf(at, "", "", 0) }

// GraphOf is the part of Graph in which senders carry from and receivers to; an empty tag
// is everybody. Past most edges, where that is not 0, it ends and says so.
func (e *Engine) GraphOf(at time.Time, from, to wire.Tag, most int) api.Graph {
	out := api.Graph{At: at, Nodes: []api.Node{}, Edges: []api.Access{}}
	for _, id := range e.Systems() {
		s := e.systems[id]
		sends, receives := from == "" || slices.Contains(s.Tags, from), to == "" || slices.Contains(s.Tags, to)
		if !sends && !receives {
			continue
		}
		out.Nodes = append(out.Nodes, api.Node{ID: id, Tags: slices.Sorted(slices.Values(s.Tags))})
		if !sends || out.More {
			continue
		}
		may := e.from(id, at)
		for _, peer := range peers(may, nil) {
			if to != "" && !slices.Contains(e.systems[peer].Tags, to) {
				continue
			}
			for _, g := range may[peer] {
				if out.More = most != 0 && len(out.Edges) == most; out.More {
					break
				}
				out.Edges = append(out.Edges, access(g))
			}
		}
	}
	return out
}

// Access returns what a system may open and who may open what to it, at an instant. The
// caller adds names.
func (e *Engine) Access(id wire.SystemID, at time.Time) []api.Access {
	out := []api.Access{}
	for _, p := range e.Pairs(id, at, at) {
		for _, g := range p.Grants {
			out = append(out, access(g))
		}
	}
	return out
}

// TagGraph returns what policies let the carriers of one tag open to those of another at
// an instant, policy by policy: how large the organisation is decides nothing about its
// size. The caller adds names.
func (e *Engine) TagGraph(at time.Time) api.TagGraph {
	out := api.TagGraph{At: at, Tags: []api.TagCount{}, Edges: []api.TagAccess{}}
	counts := make(map[wire.Tag]int)
	for _, s := range e.systems {
		if !s.counts() || over(s.ExpiresAt, at) {
			continue
		}
		if len(s.Tags) == 0 {
			out.Untagged++
		}
		for _, t := range s.Tags {
			counts[t]++
		}
	}
	for _, r := range e.slots {
		if r == nil || !r.active(at) {
			continue
		}
		standing := [2]map[wire.Tag]int{e.standing(r, senders, at), e.standing(r, receivers, at)}
		for _, from := range r.tags[senders] {
			for i, a := range r.acls {
				edge := api.TagAccess{From: from, Senders: standing[senders][from], Proto: a.proto, Ports: a.ports, Policy: r.id, Rule: i}
				for _, to := range r.tags[receivers] {
					edge.To, edge.Receivers = to, standing[receivers][to]
					out.Edges = append(out.Edges, edge)
				}
				for _, g := range r.gateways {
					if s := e.systems[g.id]; s != nil && s.stands(r, receivers, at) {
						edge.To, edge.Gateway, edge.Receivers = "", g.id, 1
						edge.Subnets, edge.Hosts = named(r.carries(s), g.names)
						out.Edges = append(out.Edges, edge)
					}
				}
			}
			if _, used := counts[from]; !used {
				counts[from] = 0
			}
		}
		for _, to := range r.tags[receivers] {
			if _, used := counts[to]; !used {
				counts[to] = 0
			}
		}
	}
	for t, n := range counts {
		out.Tags = append(out.Tags, api.TagCount{Tag: t, Systems: n})
	}
	slices.SortFunc(out.Tags, func(a, b api.TagCount) int { return strings.Compare(string(a.Tag), string(b.Tag)) })
	slices.SortStableFunc(out.Edges, func(a, b api.TagAccess) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}

// standing counts those that are on a side of r at an instant, by the tags they carry.
func (e *Engine) standing(r *rules, side int, at time.Time) map[wire.Tag]int {
	out := make(map[wire.Tag]int)
	if len(r.tags[side]) == 0 {
		return out
	}
	for s := range e.members(r, side) {
		if s.stands(r, side, at) {
			for _, t := range s.Tags {
				out[t]++
			}
		}
	}
	return out
}

// Text draws a graph as lines, one for each pair and direction, below a matrix when
// that can be read.
func Text(g api.Graph) string {
	names := make(map[string]string, len(g.Nodes))
	for _, n := range g.Nodes {
		names[string(n.ID)] = n.Name
	}
	called := func(id string) string {
		if names[id] != "" {
			return oneLine(names[id])
		}
		return oneLine(id)
	}
	return matrix(g) + draw(g, "", "", func(b *strings.Builder, n api.Node) {}, func(b *strings.Builder, from, to, label string) {
		fmt.Fprintf(b, "%s -> %s  %s\n", called(from), called(to), oneLine(label))
	})
}

// DOT draws a graph for Graphviz.
func DOT(g api.Graph) string {
	return draw(g, "digraph enclave {\n", "}\n", func(b *strings.Builder, n api.Node) {
		fmt.Fprintf(b, "  %q [label=%q];\n", string(n.ID), nodeLabel(n, "\n"))
	}, func(b *strings.Builder, from, to, label string) {
		fmt.Fprintf(b, "  %q -> %q [label=%q];\n", from, to, label)
	})
}

// Mermaid draws a graph as a Mermaid flowchart.
func Mermaid(g api.Graph) string {
	// Without a semicolon no text forms an entity of its own (#name;), without a back
	// quote none is taken for Markdown.
	escape := strings.NewReplacer(`"`, "#quot;", "<", "#lt;", ">", "#gt;", "|", "#124;", ";", "#59;", "`", "#96;").Replace
	quote := func(s string) string { return escape(oneLine(s)) }
	return draw(g, "flowchart LR\n", "", func(b *strings.Builder, n api.Node) {
		fmt.Fprintf(b, "  %s[\"%s\"]\n", mermaidID(string(n.ID)), quote(nodeLabel(n, " ")))
	}, func(b *strings.Builder, from, to, label string) {
		fmt.Fprintf(b, "  %s -->|\"%s\"| %s\n", mermaidID(from), quote(label), mermaidID(to))
	})
}

// mermaidID keeps clear of Mermaid's own words, such as end.
func mermaidID(id string) string {
	return "s_" + strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return '_'
	}, id)
}

func nodeLabel(n api.Node, between string) string {
	parts := []string{string(n.ID)}
	if n.Name != "" {
		parts = []string{n.Name}
	}
	for _, t := range n.Tags {
		parts = append(parts, "#"+string(t))
	}
	return strings.Join(parts, between)
}

// draw writes nodes and then one edge for all that one system may do at another.
func draw(g api.Graph, head, tail string, node func(*strings.Builder, api.Node), edge func(b *strings.Builder, from, to, label string)) string {
	var b strings.Builder
	b.WriteString(head)
	for _, n := range g.Nodes {
		node(&b, n)
	}
	for i := 0; i < len(g.Edges); {
		from, to := g.Edges[i].From, g.Edges[i].To
		var labels []string
		for ; i < len(g.Edges) && g.Edges[i].From == from && g.Edges[i].To == to; i++ {
			if l := label(g.Edges[i]); !slices.Contains(labels, l) {
				labels = append(labels, l)
			}
		}
		edge(&b, string(from), string(to), strings.Join(labels, ", "))
	}
	b.WriteString(tail)
	return b.String()
}

// maxLabelSubnets is how many subnets a label names: 0.0.0.0/0 comes to about thirty.
const maxLabelSubnets = 3

func label(a api.Access) string {
	text := ruleText(a.Proto, a.Ports)
	if a.Rest {
		text = "any other protocol"
	}
	if len(a.Subnets)+len(a.Hosts) == 0 {
		return text
	}
	to := slices.Clone(a.Hosts)
	for _, p := range a.Subnets {
		to = append(to, p.String())
	}
	if len(to) > maxLabelSubnets {
		to = append(to[:maxLabelSubnets], "...")
	}
	return text + " to " + strings.Join(to, " ")
}

// access is a grant as one thing somebody may do.
func access(g wire.Grant) api.Access {
	a := api.Access{From: g.From, To: g.To, Proto: g.Proto, Ports: g.Ports, Policy: g.Policy, Rule: g.Rule}
	a.Subnets, a.Hosts = named(g.Subnets, g.Names)
	a.Leads = g.Within
	return a
}

// named says names for the addresses in a list that stand for them.
func named(list []netip.Prefix, hosts []string) (subnets []netip.Prefix, found []string) {
	if len(hosts) == 0 {
		return list, nil
	}
	subnets, _ = standIns(list)
	for _, h := range hosts {
		if covers(list, names.StandIn(h)) {
			found = append(found, h)
		}
	}
	return subnets, found
}
