package wire

import (
	"fmt"
	"net/netip"
)

// MaxRoutes is how many subnets one system may carry.
const MaxRoutes = 64

// Route is a subnet that a system may carry for others, given to it by an administrator:
// what makes it a gateway. Policies and senders speak of it as it is shown; only the
// gateway knows that Subnet lies behind another As of the same size, so that two networks
// with the same addresses can be told apart.
type Route struct {
	Subnet netip.Prefix `json:"subnet"`
	As     netip.Prefix `json:"as,omitzero"` // not valid: as it is
}

// Shown is the subnet by which senders know it.
func (r Route) Shown() netip.Prefix {
	if r.As.IsValid() {
		return r.As
	}
	return r.Subnet
}

// Real is the address behind a, which Shown contains: the host bits stay.
func (r Route) Real(a netip.Addr) netip.Addr {
	if !r.As.IsValid() {
		return a
	}
	from, to := a.AsSlice(), r.Subnet.Addr().AsSlice()
	if len(from) != len(to) {
		return netip.Addr{}
	}
	for i := range to {
		if bits := r.Subnet.Bits() - 8*i; bits <= 0 {
			to[i] = from[i]
		} else if bits < 8 {
			to[i] |= from[i] & (0xff >> bits)
		}
	}
	out, _ := netip.AddrFromSlice(to)
	return out
}

// Check says what is wrong with the form of a route.
func (r Route) Check() error {
	for _, p := range []netip.Prefix{r.Subnet, r.Shown()} {
		switch {
		case !p.IsValid() || p.Addr().Is4In6():
			return fmt.Errorf("subnet %s: want a CIDR like 192.168.1.0/24", p)
		case p != p.Masked():
			return fmt.Errorf("subnet %s has host bits: write %s", p, p.Masked())
		}
	}
	if r.As.IsValid() && (r.As.Bits() != r.Subnet.Bits() || r.As.Addr().Is4() != r.Subnet.Addr().Is4()) {
		return fmt.Errorf("%s is shown as %s: want two subnets of the same size", r.Subnet, r.As)
	}
	return nil
}

func (r Route) String() string {
	if r.As.IsValid() {
		return r.Subnet.String() + " as " + r.As.String()
	}
	return r.Subnet.String()
}
