package filter

import (
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
)

// TestAGatewayGrantOpensNothingOnTheGateway: what lies behind a gateway is not the
// gateway (decision 0022).
func TestAGatewayGrantOpensNothingOnTheGateway(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	gateway, sender := netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2")
	direct := wire.Grant{From: "aaaaa", To: "ggggg", Proto: wire.TCP, Policy: "p"}
	behind := direct
	behind.Subnets = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	nothing := direct
	nothing.Subnets = []netip.Prefix{}
	for _, tc := range []struct {
		grant wire.Grant
		want  bool
	}{{behind, false}, {direct, true}, {nothing, false}} {
		table := New(Config{Self: "aaaaa", Addrs: []netip.Addr{sender}})
		table.Update([]Peer{{ID: "ggggg", Addrs: []netip.Addr{gateway}, Grants: []wire.Grant{tc.grant}}}, "test", now)
		if _, _, ok := table.Check(wire.TCP, netip.AddrPortFrom(gateway, 22), now); ok != tc.want {
			t.Errorf("with subnets %v: %v, want %v", tc.grant.Subnets, ok, tc.want)
		}
	}
	if sameGrant(direct, behind) {
		t.Error("a grant for a subnet counts as the same as one for the system")
	}
}
