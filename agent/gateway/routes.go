package gateway

import (
	"net/netip"

	"enclave/wire"
)

// Routes are the subnets that a system carries. The zero value carries everything as it
// is: a control plane that knows no routes keeps grants alone.
type Routes struct {
	given bool
	list  []wire.Route
}

// NewRoutes takes the routes of a map. A nil list is none that was told.
func NewRoutes(list []wire.Route) Routes { return Routes{list != nil, list} }

// Translate returns the real address behind dst, by the longest route that shows it.
func (r *Routes) Translate(dst netip.Addr) (netip.Addr, bool) {
	if dst.Is4In6() {
		return dst, false
	}
	if !r.given {
		return dst, true
	}
	best := -1
	for i, route := range r.list {
		if s := route.Shown(); s.Contains(dst) && (best < 0 || s.Bits() > r.list[best].Shown().Bits()) {
			best = i
		}
	}
	if best < 0 {
		return dst, false
	}
	return r.list[best].Real(dst), true
}
