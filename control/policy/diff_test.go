package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

// FuzzDiff asks both worlds about many packets: whatever turns from denied to allowed
// was gained, whatever turns the other way was lost, and nothing else was either.
func FuzzDiff(f *testing.F) {
	for seed := range uint64(400) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		d := dice{rand.New(rand.NewPCG(seed, 5))}
		before := randomEngine(t, d)
		after := before.Clone()
		for range 1 + d.IntN(3) {
			if d.IntN(2) == 0 {
				after.PutSystem(d.system(d.IntN(6), epoch), epoch)
			} else {
				mustPut(t, after, d.policy(d.IntN(5), epoch), epoch)
			}
		}
		at := d.instant(epoch)
		diff := Diff(before, after, at)
		if diff.GainedCount != len(diff.Gained) || diff.LostCount != len(diff.Lost) {
			t.Fatalf("counts %d %d", diff.GainedCount, diff.LostCount)
		}
		for range 60 {
			q := d.packet()
			q.Reply = false
			if q.Proto == wire.TCP || q.Proto == wire.UDP {
				q.DstPort = max(q.DstPort, 1)
			}
			lead := d.toName(&q)
			was, is := before.byWhom(q, lead, at), after.byWhom(q, lead, at)
			for to := range is {
				if got := told(diff.Gained, after, q, lead, to); got != !was[to] {
					t.Fatalf("%+v to %s: before %v after %v, gained %v: %+v", q, to, was, is, got, diff.Gained)
				}
			}
			for to := range was {
				if got := told(diff.Lost, before, q, lead, to); got != !is[to] {
					t.Fatalf("%+v to %s: before %v after %v, lost %v: %+v", q, to, was, is, got, diff.Lost)
				}
			}
		}
	})
}

// toName makes some packets go to a name, and draws the address that it leads to.
func (d dice) toName(q *Packet) netip.Addr {
	if d.IntN(4) == 0 {
		q.Src, q.Dst = netip.MustParseAddr([]string{"fd00::2", "fd00::3"}[d.IntN(2)]), names.StandIn("files.example.com")
	}
	all := probes()
	return all[d.IntN(len(all))]
}

// byWhom returns the systems, receiver or gateways, at which q is accepted; where it goes
// to a name, those by which the name may lead there.
func (e *Engine) byWhom(q Packet, lead netip.Addr, at time.Time) map[wire.SystemID]bool {
	out, named := map[wire.SystemID]bool{}, names.StandIns().Contains(q.Dst)
	accepted := false
	src, dst := e.byAddr[q.Src], e.byAddr[q.Dst]
	if src == nil || q.Src.Is4() != q.Dst.Is4() {
		return out
	}
	for to, grants := range e.from(src.ID, at) {
		for _, g := range grants {
			a := rule{proto: g.Proto, ports: g.Ports}
			here := dst != nil && dst.ID == to && len(g.Subnets) == 0
			if a.matches(q) && (here || (dst == nil && covers(g.Subnets, q.Dst))) {
				accepted = true
				if !named || covers(g.Within, lead) {
					out[to] = true
				}
			}
		}
	}
	if accepted != e.Evaluate(q, at).Allow {
		panic("the grants and the verdict differ")
	}
	return out
}

// told reports whether a list names the packet, and where it leads.
func told(list []api.Access, e *Engine, q Packet, lead netip.Addr, to wire.SystemID) bool {
	src, named := e.byAddr[q.Src], names.StandIns().Contains(q.Dst)
	return slices.ContainsFunc(list, func(a api.Access) bool {
		if a.From != src.ID || a.To != to || (len(a.Subnets)+len(a.Hosts) > 0) != (e.byAddr[q.Dst] == nil) {
			return false
		}
		r := rule{proto: a.Proto, ports: a.Ports}
		if a.Proto == wire.Any && a.Rest && q.Proto != 0 {
			return false
		}
		if named {
			return r.matches(q) && len(a.Hosts) > 0 && covers(a.Leads, lead)
		}
		return r.matches(q) && (e.byAddr[q.Dst] != nil || covers(a.Subnets, q.Dst))
	})
}

func TestDiff(t *testing.T) {
	before := New()
	before.PutSystem(sys("alice", 1, "dev"), epoch)
	before.PutSystem(sys("podbb", 2, "pod"), epoch)
	mustPut(t, before, direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 90}}}), epoch)
	show := func(list []api.Access) (out []string) {
		for _, a := range list {
			out = append(out, fmt.Sprintf("%s>%s %s %s#%d", a.From, a.To, label(a), a.Policy, a.Rule))
		}
		return out
	}
	after := before.Clone()
	mustPut(t, after, direct("q", []wire.Tag{"dev"}, []wire.Tag{"pod"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 85, Hi: 95}}}), epoch)
	d := Diff(before, after, epoch)
	want(t, "only what is new", show(d.Gained), []string{"alice>podbb tcp 91-95 q#0"})
	want(t, "nothing lost", show(d.Lost), []string(nil))

	after.DropPolicy("p", epoch)
	d = Diff(before, after, epoch)
	want(t, "what q does not cover", show(d.Lost), []string{"alice>podbb tcp 80-84 p#0"})
	want(t, "still introduced", len(d.Introduced)+len(d.Forgotten), 0)

	after.DropPolicy("q", epoch)
	want(t, "forgotten", Diff(before, after, epoch).Forgotten, [][2]wire.SystemID{{"alice", "podbb"}})
	want(t, "introduced", Diff(after, before, epoch).Introduced, [][2]wire.SystemID{{"alice", "podbb"}})

	mustPut(t, after, direct("all", []wire.Tag{"dev"}, []wire.Tag{"pod"}), epoch)
	want(t, "any instead of some", show(Diff(before, after, epoch).Gained),
		[]string{"alice>podbb any other protocol all#0", "alice>podbb tcp 1-79,91-65535 all#0", "alice>podbb udp all#0", "alice>podbb icmp all#0"})
}

func TestDiffTellsOnce(t *testing.T) {
	before := New()
	before.PutSystem(sys("alice", 1, "dev"), epoch)
	before.PutSystem(sys("podbb", 2, "pod"), epoch)
	after := before.Clone()
	web := wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 90}, {Lo: 85, Hi: 95}}}
	mustPut(t, after, direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}, web), epoch)
	mustPut(t, after, direct("q", []wire.Tag{"dev"}, []wire.Tag{"pod"}, web, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 95, Hi: 96}}}), epoch)
	var got []string
	for _, a := range Diff(before, after, epoch).Gained {
		got = append(got, string(a.Policy)+" "+label(a))
	}
	want(t, "gained", got, []string{"p tcp 80-90,85-95", "q tcp 96"})
}

func TestDiffOfSubnets(t *testing.T) {
	gate := func(subnet string) wire.Policy {
		return wire.Policy{ID: "g", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"dev"}, ACLs: []wire.ACL{{Proto: wire.TCP}},
			Gateways: []wire.GatewayRoute{{System: "podbb", Subnets: []string{subnet}}}}
	}
	before := New()
	before.PutSystem(sys("alice", 1, "dev"), epoch)
	before.PutSystem(sys("podbb", 2), epoch)
	after := before.Clone()
	mustPut(t, before, gate("10.0.0.0/8"), epoch)
	mustPut(t, after, gate("10.0.0.0/9"), epoch)
	d := Diff(before, after, epoch)
	if d.GainedCount != 0 || d.LostCount != 1 || label(d.Lost[0]) != "tcp to 10.128.0.0/9" {
		t.Errorf("%+v", d)
	}
}

// TestDiffOfWhereNamesLead: a name that stays may still lead to less.
func TestDiffOfWhereNamesLead(t *testing.T) {
	gate := func(subnet string) wire.Policy {
		return wire.Policy{ID: "g", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"dev"}, ACLs: []wire.ACL{{Proto: wire.TCP}},
			Gateways: []wire.GatewayRoute{{System: "podbb", Subnets: []string{subnet}}}, SubnetFilter: []string{"db.test"}}
	}
	before := New()
	before.PutSystem(sys("alice", 1, "dev"), epoch)
	before.PutSystem(sys("podbb", 2), epoch)
	after := before.Clone()
	mustPut(t, before, gate("10.0.0.0/8"), epoch)
	mustPut(t, after, gate("10.0.0.0/9"), epoch)
	for _, c := range []struct {
		before, after *Engine
		what          string
	}{{before, after, "tcp db.test at 10.128.0.0/9"}, {New(), before, ""}} {
		d := Diff(c.before, c.after, epoch)
		if c.what == "" {
			c.what = "tcp db.test at 10.0.0.0/8"
			d.Lost, d.Gained = d.Gained, d.Lost
		}
		if len(d.Gained) != 0 || len(d.Lost) != 1 || d.Lost[0].What() != c.what {
			t.Errorf("%+v, want %s", d, c.what)
		}
	}
}

func TestGraph(t *testing.T) {
	e := New()
	e.PutSystem(sys("alice", 1, "dev"), epoch)
	e.PutSystem(sys("podbb", 2, "pod"), epoch)
	mustPut(t, e, direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}, wire.ACL{Proto: wire.ICMP}), epoch)
	mustPut(t, e, wire.Policy{ID: "g", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"dev"}, ACLs: []wire.ACL{{Proto: wire.Any}},
		Gateways: []wire.GatewayRoute{{System: "podbb", Subnets: []string{"192.168.1.0/24"}}}}, epoch)
	g := e.Graph(epoch)
	g.Nodes[1].Name = `a "pod"|x`
	want(t, "text", Text(g), "alice -> a \"pod\"|x  any to 192.168.1.0/24, tcp 80, icmp\n")
	want(t, "dot", DOT(g), `digraph enclave {
  "alice" [label="alice\n#dev"];
  "podbb" [label="a \"pod\"|x\n#pod"];
  "alice" -> "podbb" [label="any to 192.168.1.0/24, tcp 80, icmp"];
}
`)
	want(t, "mermaid", Mermaid(g), `flowchart LR
  s_alice["alice #dev"]
  s_podbb["a #quot;pod#quot;#124;x #pod"]
  s_alice -->|"any to 192.168.1.0/24, tcp 80, icmp"| s_podbb
`)
}
