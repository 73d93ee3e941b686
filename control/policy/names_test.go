package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

// TestNamesAreSaidAsNames: what a name opens is granted by its stand-in, and told by its
// name; it takes a subnet that the gateway may carry for the name to lead to.
func TestNamesAreSaidAsNames(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	e := New()
	e.SetOverlay(DefaultOverlay()...)
	put := func(id wire.SystemID, ip string, tag wire.Tag, carries ...netip.Prefix) {
		e.PutSystem(System{ID: id, IPs: []netip.Addr{netip.MustParseAddr(ip)}, Tags: []wire.Tag{tag}, Approved: true, Enabled: true, Carries: carries}, now)
	}
	lan, other := netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("10.0.0.0/8")
	put("me001", "100.64.0.1", "laptops")
	put("gate1", "100.64.0.2", "gates", lan)
	p := wire.Policy{ID: "p1", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"laptops"}, ACLs: []wire.ACL{{Proto: wire.TCP}},
		Gateways: []wire.GatewayRoute{{System: "gate1", Subnets: []string{lan.String()}}}, SubnetFilter: []string{"b.test", "192.168.1.7", "a.test"}}
	if _, bad := e.PutPolicy(p, now); len(bad) > 0 {
		t.Fatal(bad)
	}
	g := e.Pairs("me001", now, now)[0].Grants[0]
	if !slices.Equal(g.Names, []string{"b.test", "a.test"}) || !slices.Equal(g.Within, []netip.Prefix{lan}) || len(g.Subnets) != 3 {
		t.Errorf("granted %+v", g)
	}
	edge := e.Graph(now).Edges[0]
	if len(edge.Subnets) != 1 || !slices.Equal(edge.Hosts, g.Names) || label(edge) != "tcp to b.test a.test 192.168.1.7/32" {
		t.Errorf("told %+v: %s", edge, label(edge))
	}
	p.SubnetFilter = p.SubnetFilter[1:]
	if lost := beyond([]wire.Grant{g}, func() []wire.Grant { e.PutPolicy(p, now); return e.Pairs("me001", now, now)[0].Grants }()); len(lost) != 1 || len(lost[0].Subnets) != 0 || !slices.Equal(lost[0].Hosts, []string{"b.test"}) {
		t.Errorf("lost %+v", lost)
	}
	stand := Packet{Src: netip.MustParseAddr("100.64.0.1"), Dst: names.StandIn("a.test"), Proto: wire.TCP, DstPort: 80}
	if s := e.systems["me001"]; e.try(e.policies["p1"], s, nil, stand, now, false).rules == nil {
		t.Error("the name is not allowed")
	}
	put("gate1", "100.64.0.2", "gates", other) // no subnet is left for the name to lead to
	if s := e.systems["me001"]; e.try(e.policies["p1"], s, nil, stand, now, false).rules != nil || len(e.Pairs("me001", now, now)) != 0 {
		t.Error("a gateway that may not carry the subnets resolves the name")
	}
	if e.Introduced("me001", "gate1", now) {
		t.Error("a gateway that carries nothing is introduced")
	}
	if lacks := e.Lacking("p1")["gate1"]; !slices.Equal(lacks, []netip.Prefix{lan}) {
		t.Errorf("lacking %v", lacks)
	}
	for _, bad := range []string{"*.test", "a_b.test", "-a.test", "*"} {
		if _, _, err := parseFilter(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestNamesLeadWhereAGatewayReaches: whoever answers for a name leads nobody to what no
// subnet covers, not 0.0.0.0/0 either.
func TestNamesLeadWhereAGatewayReaches(t *testing.T) {
	e := New()
	e.SetOverlay(DefaultOverlay()...)
	e.PutSystem(sys("alice", 1, "dev"), epoch)
	e.PutSystem(sys("gate1", 9), epoch)
	mustPut(t, e, wire.Policy{ID: "p", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"dev"}, ACLs: []wire.ACL{{Proto: wire.Any}},
		Gateways: []wire.GatewayRoute{{System: "gate1", Subnets: []string{"0.0.0.0/0", "::/0"}}}, SubnetFilter: []string{"a.test"}}, epoch)
	within := e.Pairs("alice", epoch, epoch)[0].Grants[0].Within
	for addr, want := range map[string]bool{"8.8.8.8": true, "2001:db8::1": true, "127.0.0.1": false, "169.254.169.254": false, "100.64.0.7": false, "fd00::1": false, "::1": false} {
		if covers(within, netip.MustParseAddr(addr)) != want {
			t.Errorf("leads to %s: %v", addr, !want)
		}
	}
}
