package agent

import (
	"net/netip"
	"testing"
	"time"

	"enclave/agent/filter"
	"enclave/wire"
	"enclave/wire/names"
)

// TestNamedFollowsTheFiltersTime: a grant that has ended leads to no name, wherever the
// wall clock is set.
func TestNamedFollowsTheFiltersTime(t *testing.T) {
	now, stand := time.Now(), names.StandIn("db.test")
	p := wire.Peer{ID: "bbbbb", IPv4: netip.MustParseAddr("100.64.0.2"), IPv6: netip.MustParseAddr("fd00::2"), Grants: []wire.Grant{{
		From: "bbbbb", To: me, Proto: wire.TCP, NotAfter: now.Add(time.Hour), Names: []string{"db.test"},
		Subnets: []netip.Prefix{netip.PrefixFrom(stand, 128)},
	}}}
	o := &overlay{filter: filter.New(filter.Config{Self: me})}
	all := namers([]wire.Peer{p})
	o.namers.Store(&all)
	named := func() bool {
		n, ok := o.named(wire.TCP, netip.AddrPortFrom(p.IPv6, 4000), netip.AddrPortFrom(stand, 80))
		return ok && n.Name == "db.test"
	}
	if !named() {
		t.Fatal("no name")
	}
	o.filter.SetClock(now.Add(2*time.Hour), now)
	if named() {
		t.Error("a grant that has ended still leads to a name")
	}
}
