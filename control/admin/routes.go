package admin

import (
	"context"
	"fmt"
	"net/netip"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
)

// systemRoutes adds and removes what a system may carry, in one revision.
func (a *API) systemRoutes(ctx context.Context, in *systemRoutes) (*outcome, error) {
	org, err := a.store.Org(ctx)
	if err != nil {
		return nil, refuse(err)
	}
	var bad []wire.Problem
	mistake := func(path string, i int, err error) {
		bad = append(bad, wire.Problem{Path: fmt.Sprintf("%s[%d]", path, i), Message: err.Error()})
	}
	var add []wire.Route
	seen := make(map[netip.Prefix]bool)
	for i, b := range in.Body.Add {
		r := wire.Route{}
		r.Subnet, err = policy.ParseSubnet(b.Subnet)
		if err == nil && b.As != "" {
			r.As, err = policy.ParseSubnet(b.As)
		}
		if r.As == r.Subnet {
			r.As = netip.Prefix{}
		}
		if err == nil {
			err = policy.CheckRoute(r, org.IPv4, org.IPv6)
		}
		if err == nil && seen[r.Shown()] {
			err = fmt.Errorf("subnet %s is given twice", r.Shown())
		}
		if err != nil {
			mistake("add", i, err)
			continue
		}
		seen[r.Shown()] = true
		add = append(add, r)
	}
	var remove []netip.Prefix
	for i, s := range in.Body.Remove {
		p, err := policy.ParseSubnet(s)
		if err != nil {
			mistake("remove", i, err)
			continue
		}
		remove = append(remove, p)
	}
	if len(in.Body.Add)+len(in.Body.Remove) == 0 {
		bad = append(bad, wire.Problem{Message: "nothing to change: give add or remove"})
	}
	if len(bad) > 0 {
		return nil, invalid(bad...)
	}
	return a.systemAction(func(ctx context.Context, c store.Change, id wire.SystemID) (wire.Revision, error) {
		return a.store.ChangeRoutes(ctx, c, id, add, remove)
	})(ctx, &in.SystemAction)
}
