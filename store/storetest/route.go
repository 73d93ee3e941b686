package storetest

import (
	"net/netip"
	"slices"
	"testing"

	"enclave/store"
	"enclave/wire"
)

// testRoutes: what a system may carry changes as one, or not at all, and goes with it.
func testRoutes(t *testing.T, l *Lab) {
	s := l.System("gate")
	p := netip.MustParsePrefix
	office := wire.Route{Subnet: p("192.168.1.0/24")}
	branch := wire.Route{Subnet: p("192.168.1.0/24"), As: p("10.1.1.0/24")}
	_, err := l.ChangeRoutes(l.Ctx, l.C, s.ID, []wire.Route{office, branch}, nil)
	l.must(err)
	if got := l.read(s.ID).Routes; !slices.Equal(got, []wire.Route{branch, office}) {
		t.Errorf("routes %v", got)
	}
	_, err = l.ChangeRoutes(l.Ctx, l.C, s.ID, []wire.Route{{Subnet: p("10.9.0.0/16")}, office}, nil)
	l.want(err, store.ErrConflict)
	_, err = l.ChangeRoutes(l.Ctx, l.C, s.ID, []wire.Route{{Subnet: p("10.9.0.1/16")}}, nil)
	l.want(err, store.ErrConflict)
	_, err = l.ChangeRoutes(l.Ctx, l.C, s.ID, nil, []netip.Prefix{p("10.1.1.0/24"), p("10.2.2.0/24")})
	l.want(err, store.ErrNotFound)
	if got := l.read(s.ID).Routes; len(got) != 2 {
		t.Errorf("a change that was refused left %v", got)
	}
	var many []wire.Route
	for i := range wire.MaxRoutes {
		many = append(many, wire.Route{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i), 0}), 24)})
	}
	_, err = l.ChangeRoutes(l.Ctx, l.C, s.ID, many, nil)
	l.want(err, store.ErrConflict)
	_, err = l.ChangeRoutes(l.Ctx, l.C, s.ID, nil, []netip.Prefix{p("10.1.1.0/24")})
	l.must(err)
	if got := l.read(s.ID).Routes; !slices.Equal(got, []wire.Route{office}) {
		t.Errorf("left %v", got)
	}
	_, err = l.DeleteSystem(l.Ctx, l.C, s.ID)
	l.must(err)
}
