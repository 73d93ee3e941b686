package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Graph returns who may open what to whom at an instant. The caller adds names.
func (e *Engine) Graph(at time.Time) api.Graph {
	out := api.Graph{At: at, Nodes: []api.Node{}, Edges: []api.Access{}}
	for _, id := range e.Systems() {
		out.Nodes = append(out.Nodes, api.Node{ID: id, Tags: slices.Sorted(slices.Values(e.systems[id].Tags))})
		from := e.from(id, at)
		for _, to := range peers(from, nil) {
			for _, g := range from[to] {
				out.Edges = append(out.Edges, access(g))
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
	if len(a.Subnets) == 0 {
		return text
	}
	var to []string
	for _, p := range a.Subnets[:min(len(a.Subnets), maxLabelSubnets)] {
		to = append(to, p.String())
	}
	if len(a.Subnets) > maxLabelSubnets {
		to = append(to, "...")
	}
	return text + " to " + strings.Join(to, " ")
}

// access is a grant as one thing somebody may do.
func access(g wire.Grant) api.Access {
	return api.Access{From: g.From, To: g.To, Proto: g.Proto, Ports: g.Ports, Policy: g.Policy, Rule: g.Rule, Subnets: g.Subnets}
}
