package control

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Explain implements admin.Answers.
func (h *hub) Explain(from, to netip.Addr, proto wire.Proto, port uint16, at time.Time) api.Explanation {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.engine.Explain(from, to, proto, port, at)
	for i := range x.Chain {
		if p := h.policies[x.Chain[i].Policy]; p != nil {
			x.Chain[i].Name = p.Name
		}
	}
	return x
}

// Graph implements admin.Answers.
func (h *hub) Graph(at time.Time) api.Graph {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.engine.Graph(at)
	for i := range g.Nodes {
		g.Nodes[i].Name = h.nameOf(g.Nodes[i].ID)
	}
	for i := range g.Edges {
		g.Edges[i].Names = [2]string{h.nameOf(g.Edges[i].From), h.nameOf(g.Edges[i].To)}
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
	for i := range list {
		c := &list[i]
		switch c.Object {
		case "policy":
			if p := h.policies[wire.PolicyID(c.ID)]; p != nil {
				c.Name = p.Name
			}
		case "system", "trust":
			c.Name = h.nameOf(wire.SystemID(c.ID))
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
