package reach

import (
	"fmt"
	"slices"
	"strings"

	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/find"
)

// chart is an answer as rows that open to columns.
type chart struct {
	rows, cols []*node
	cells      map[[2]string]*cell // by the IDs of both
	more       bool                // the answer was cut
	note       string
	drawn      []line // made when asked for
}

// node is a system, a tag or a gateway.
type node struct {
	id, label string
	tags      []wire.Tag
	gateway   bool
	size      int // systems of a tag
}

// cell is what a row may open at a column.
type cell struct{ may []may }

type may struct {
	proto  wire.Proto
	ports  wire.Ports
	by     string // policy and rule
	behind string // subnets
	some   string // who of the tags, where not all
}

func (a *may) what() string {
	if len(a.ports) > 0 {
		return a.proto.String() + "/" + a.ports.String()
	}
	return a.proto.String()
}

func (a *may) all() bool { return a.proto == wire.Any && a.some == "" }

func by(name string, id wire.PolicyID, rule int) string {
	switch {
	case id == "mutual":
		return "each added the other"
	case name == "":
		name = string(id)
	}
	return fmt.Sprintf("%s, rule %d", name, rule+1)
}

func behind(a *api.Access) string {
	var out []string
	for _, p := range a.Subnets {
		out = append(out, p.String())
	}
	for _, h := range a.Hosts {
		out = append(out, theme.Clean(h))
	}
	return strings.Join(out, " ")
}

func (c *chart) put(from, to string, a may) {
	at := [2]string{from, to}
	if c.cells[at] == nil {
		c.cells[at] = new(cell)
	}
	c.cells[at].may = append(c.cells[at].may, a)
}

// ofSystems makes a chart of systems; with tags, rows carry from and columns to.
func ofSystems(g *api.Graph, from, to wire.Tag) *chart {
	c := &chart{cells: make(map[[2]string]*cell), more: g.More}
	for i := range g.Nodes {
		n := &node{id: string(g.Nodes[i].ID), label: g.Nodes[i].Name, tags: g.Nodes[i].Tags}
		if n.label == "" {
			n.label = n.id
		}
		if from == "" || slices.Contains(n.tags, from) {
			c.rows = append(c.rows, n)
		}
		if to == "" || slices.Contains(n.tags, to) {
			c.cols = append(c.cols, n)
		}
	}
	for i := range g.Edges {
		a := &g.Edges[i]
		c.put(string(a.From), string(a.To), may{proto: a.Proto, ports: a.Ports, by: by(a.PolicyName, a.Policy, a.Rule), behind: behind(a)})
	}
	c.order()
	if from != "" {
		c.note = fmt.Sprintf("%s → %s", from, to)
	}
	return c
}

// ofTags makes a chart of tags and of gateways, which are columns only.
func ofTags(g *api.TagGraph) *chart {
	c := &chart{cells: make(map[[2]string]*cell)}
	size := make(map[wire.Tag]int)
	for _, t := range g.Tags {
		n := &node{id: string(t.Tag), label: string(t.Tag), size: t.Systems}
		size[t.Tag] = t.Systems
		c.rows, c.cols = append(c.rows, n), append(c.cols, n)
	}
	gates := make(map[wire.SystemID]bool)
	for i := range g.Edges {
		e := &g.Edges[i]
		a := may{proto: e.Proto, ports: e.Ports, by: by(e.PolicyName, e.Policy, e.Rule)}
		if e.Senders < size[e.From] {
			a.some = fmt.Sprintf("%d of %s", e.Senders, wire.Count(size[e.From], "sender"))
		}
		to := string(e.To)
		if e.Gateway == "" {
			if n := size[e.To]; e.Receivers < n {
				a.some = strings.TrimPrefix(a.some+fmt.Sprintf(", %d of %s", e.Receivers, wire.Count(n, "receiver")), ", ")
			}
		} else {
			to = "gateway:" + string(e.Gateway)
			a.behind = behind(&api.Access{Subnets: e.Subnets, Hosts: e.Hosts})
			if !gates[e.Gateway] {
				gates[e.Gateway] = true
				c.cols = append(c.cols, &node{id: to, label: e.GatewayName, gateway: true})
			}
		}
		c.put(string(e.From), to, a)
	}
	if g.Untagged > 0 {
		c.note = wire.Count(g.Untagged, "system") + " without a tag: in none of these"
	}
	return c
}

func (c *chart) order() {
	byName := func(a, b *node) int {
		if d := strings.Compare(a.label, b.label); d != 0 {
			return d
		}
		return strings.Compare(a.id, b.id)
	}
	slices.SortFunc(c.rows, byName)
	slices.SortFunc(c.cols, byName)
}

// filtered keeps rows and columns that match: of "a > b" rows a and columns b, of a word
// those that match and whom they reach or are reached by.
func (c *chart) filtered(text string) *chart {
	if text == "" {
		return c
	}
	out := &chart{cells: c.cells, more: c.more, note: c.note}
	if from, to, two := strings.Cut(text, ">"); two {
		from, to = strings.TrimSpace(from), strings.TrimSpace(to)
		out.rows = pick(c.rows, func(n *node) bool { return n.matches(from) })
		out.cols = pick(c.cols, func(n *node) bool { return n.matches(to) })
		return out
	}
	hit := make(map[string]bool)
	for _, n := range slices.Concat(c.rows, c.cols) {
		if n.matches(text) {
			hit[n.id] = true
		}
	}
	near := make(map[string]bool)
	for at := range c.cells {
		if hit[at[0]] || hit[at[1]] {
			near[at[0]], near[at[1]] = true, true
		}
	}
	keep := func(n *node) bool { return hit[n.id] || near[n.id] }
	out.rows, out.cols = pick(c.rows, keep), pick(c.cols, keep)
	return out
}

func pick(list []*node, keep func(*node) bool) (out []*node) {
	for _, n := range list {
		if keep(n) {
			out = append(out, n)
		}
	}
	return out
}

func (n *node) matches(word string) bool {
	t := find.Thing{Names: []string{n.label}, IDs: []string{n.id}}
	for _, tag := range n.tags {
		t.Texts = append(t.Texts, string(tag))
	}
	return t.Found(word)
}

// line is one thing that a row may open, with all columns at which it may.
type line struct {
	from *node
	what string
	to   []*node
}

// lines draw the chart as a graph: what each row may open, and where.
func (c *chart) lines() []line {
	if c.drawn != nil || len(c.cells) == 0 {
		return c.drawn
	}
	for _, from := range c.rows {
		begin := len(c.drawn)
		at := make(map[string]int)
		for _, to := range c.cols {
			cell := c.cells[[2]string{from.id, to.id}]
			if cell == nil {
				continue
			}
			for i := range cell.may {
				key := cell.may[i].what() + " by " + cell.may[i].by
				if j, ok := at[key]; ok {
					if last := c.drawn[j].to; last[len(last)-1] != to {
						c.drawn[j].to = append(c.drawn[j].to, to)
					}
					continue
				}
				at[key] = len(c.drawn)
				c.drawn = append(c.drawn, line{from, key, []*node{to}})
			}
		}
		slices.SortStableFunc(c.drawn[begin:], func(a, b line) int { return strings.Compare(a.what, b.what) })
	}
	return c.drawn
}
