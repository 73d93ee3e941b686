package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Explain implements admin.Answers.
func (h *hub) Explain(from, to netip.Addr, proto wire.Proto, port uint16, at time.Time) api.Explanation {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.engine.Explain(from, to, proto, port, at)
	n := 0
	if x.Allow { // crowded is of the maps that were made last, and of another instant
		n = len(h.engine.Between(x.From, x.To, at, at))
	}
	if n > wire.MaxGrantsPerPeer {
		x.Allow, x.Policy, x.Rule = false, "", -1
		x.Why = fmt.Sprintf("policies have %d rules between %s and %s, and a map carries %d: the two do not know each other", n, x.From, x.To, wire.MaxGrantsPerPeer)
		x.Chain = append([]api.Step{{Check: "system", Detail: x.Why}}, x.Chain...)
	}
	h.people().explanation(&x)
	return x
}

// Names implements admin.Answers.
func (h *hub) Names(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.engine.Names(name)
}

// maxEdges is how many edges one answer holds: they are derived under the lock of the hub,
// 67 ms of it. 2,000 systems in one mesh have 4,000,000.
const maxEdges = 20_000

// Graph implements admin.Answers.
func (h *hub) Graph(at time.Time, from, to wire.Tag) api.Graph {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.engine.GraphOf(at, from, to, maxEdges)
	// The revoked are only there to be told so.
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n api.Node) bool { return h.nodes[n.ID] != nil && h.nodes[n.ID].sys.Revoked })
	p := h.people()
	for i := range g.Nodes {
		g.Nodes[i].Name = p.system(g.Nodes[i].ID)
	}
	p.access(g.Edges)
	return g
}

// TagGraph implements admin.Answers.
func (h *hub) TagGraph(at time.Time) api.TagGraph {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, p := h.engine.TagGraph(at), h.people()
	g.Edges = g.Edges[:min(len(g.Edges), maxEdges)]
	for i := range g.Edges {
		e := &g.Edges[i]
		e.PolicyName = p.policy(e.Policy)
		if e.Gateway != "" {
			e.GatewayName = p.system(e.Gateway)
		}
	}
	return g
}

// RunTests implements admin.Answers.
func (h *hub) RunTests(list []wire.Assertion, now time.Time) []api.TestResult {
	h.mu.Lock()
	defer h.mu.Unlock()
	if list == nil {
		list = h.rules.Tests
	}
	return h.runTests(list, nil, now)
}

// Requirement implements admin.Answers.
func (h *hub) Requirement(id string) (wire.Requirement, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, q := range h.rules.Requirements {
		if q.ID == id && q.Broken == "" {
			return q.Requirement, true
		}
	}
	return wire.Requirement{}, false
}

// Forecast implements admin.Answers. Enrolment keys are the store's to know.
func (h *hub) Forecast(ctx context.Context, now, until time.Time) ([]api.Coming, error) {
	keys, err := h.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	list := h.engine.Forecast(now, until)
	names := h.people()
	for i := range list {
		c := &list[i]
		about := make(map[wire.SystemID]bool)
		if c.Object != "policy" {
			about[wire.SystemID(c.ID)] = true
		}
		c.Detail = names.say(c.Detail, about)
		if left, ok := strings.CutPrefix(c.Warning, leavesNobody); ok {
			for _, id := range strings.Fields(left) {
				about[wire.SystemID(id)] = true
			}
			c.Warning = leavesNobody + names.say(left, about)
		}
		switch c.Object {
		case "policy":
			if p := h.policies[wire.PolicyID(c.ID)]; p != nil {
				c.Name = p.Name
			}
		case "system", "trust":
			c.Name = names.system(wire.SystemID(c.ID))
			if n := h.nodes[wire.SystemID(c.ID)]; n != nil && c.Object == "system" {
				c.Detail += onTheClock(n.sys.ExpiresLocal) + thenDeleted(n.sys.ExpiryAction)
			}
		}
	}
	h.mu.Unlock()
	for _, k := range keys {
		if k.Enabled && k.ExpiresAt.After(now) && !k.ExpiresAt.After(until) {
			list = append(list, api.Coming{At: k.ExpiresAt, Kind: "expires", Object: "key", ID: string(k.ID), Name: k.Name, Detail: "the key expires" + onTheClock(k.ExpiresLocal) + thenDeleted(k.ExpiryAction) + ": nobody enrols with it from then on"})
		}
	}
	slices.SortStableFunc(list, func(a, b api.Coming) int { return a.At.Compare(b.At) })
	return list, nil
}

// leavesNobody is how the engine begins a warning; IDs follow.
const leavesNobody = "leaves no sender for "

// onTheClock is the wall clock that an expiry was written as, to put behind it.
func onTheClock(l *wire.LocalTime) string {
	if l == nil {
		return ""
	}
	return " (" + l.String() + ")"
}

func thenDeleted(a wire.ExpiryAction) string {
	if a == wire.DeleteOnExpiry {
		return " and is deleted"
	}
	return ""
}
