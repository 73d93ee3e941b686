package control

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

// TestAnswersUseNames gives two systems one name: they are told apart by their IDs.
func TestAnswersUseNames(t *testing.T) {
	h := emptyHub()
	now := time.Now()
	f := fresh{revision: 2, systems: map[wire.SystemID]*store.System{}, policies: map[wire.PolicyID]*stored{}}
	for i, s := range []struct {
		id   wire.SystemID
		name string
		tag  wire.Tag
	}{{"aaaa1", "laptop", "a"}, {"bbbb1", "web", "b"}, {"bbbb2", "web", "b"}, {"rules", "trap", "b"}} {
		f.systems[s.id] = &store.System{ID: s.id, Name: s.name, Tags: []wire.Tag{s.tag}, Approved: true, Enabled: true,
			IPv4: netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)}), IPv6: netip.MustParseAddr("fd00::" + string(rune('1'+i)))}
	}
	f.systems["bbbb2"].Revoked = true
	p := direct("a", "b")
	p.ID, p.Name = "pppppppp", "Web"
	f.policies[p.ID] = asStored(p)
	h.apply(f, now)

	ip := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, 0, n}) }
	x := h.Explain(ip(1), ip(2), wire.TCP, 22, now)
	if !x.Allow || x.From != "aaaa1" || x.Policy != p.ID || !strings.HasPrefix(x.Why, `policy "Web", rule 0`) || x.Names["bbbb1"] != "web (bbbb1)" || x.Names["aaaa1"] != "laptop" {
		t.Errorf("%+v", x)
	}
	x = h.Explain(ip(2), ip(1), wire.TCP, 22, now)
	text := x.Why
	for _, s := range x.Chain {
		text += "\n" + s.Detail
	}
	text += strings.Join(x.Fixes, "\n")
	if x.Allow || strings.Contains(text, "aaaa1") || strings.Contains(text, "pppppppp") || !strings.Contains(text, "web (bbbb1)") {
		t.Errorf("IDs in %s", text)
	}
	// The revoked are known for what they are.
	if x = h.Explain(ip(1), ip(3), wire.TCP, 22, now); x.Allow || !strings.Contains(x.Why, "web (bbbb2) is revoked") {
		t.Errorf("%+v", x)
	}
	g := h.Graph(now, "", "")
	if len(g.Nodes) != 3 || len(g.Edges) == 0 || g.Edges[0].Names != [2]string{"laptop", "web (bbbb1)"} || g.Edges[0].PolicyName != "Web" {
		t.Errorf("%+v", g)
	}
}
