package netcheck

import (
	"net/netip"
	"slices"
)

// MappingOf tells from STUN's answers to one socket, bound to port, how the NAT maps. It
// looks at IPv4, and at IPv6 where there is nothing else. The second result names the
// family it looked at by an outside address of it.
func MappingOf(answers []STUNReport, local []netip.Addr, port uint16) (Mapping, netip.AddrPort) {
	var heard []STUNReport
	for _, v4 := range []bool{true, false} {
		for _, a := range answers {
			if a.Observed.IsValid() && a.At.Addr().Is4() == v4 {
				heard = append(heard, a)
			}
		}
		if len(heard) > 0 {
			break
		}
	}
	if len(heard) == 0 {
		return MapUnknown, netip.AddrPort{}
	}
	outside := heard[0].Observed
	same := true
	ports := map[netip.Addr][]STUNReport{} // by the server's address
	for _, a := range heard {
		same = same && a.Observed == outside
		if !slices.ContainsFunc(ports[a.At.Addr()], func(b STUNReport) bool { return b.At == a.At }) {
			ports[a.At.Addr()] = append(ports[a.At.Addr()], a)
		}
	}
	twoPorts, byPort := false, false
	for _, list := range ports {
		twoPorts = twoPorts || len(list) > 1
		byPort = byPort || slices.ContainsFunc(list, func(a STUNReport) bool { return a.Observed != list[0].Observed })
	}
	switch {
	case same && outside.Port() == port && (slices.Contains(local, outside.Addr()) || outside.Addr().IsLoopback()):
		return MapNone, outside
	case byPort:
		return MapByPort, outside
	case !same && twoPorts:
		return MapByAddress, outside
	case !same:
		return MapDependent, outside
	case len(ports) > 1:
		return MapIndependent, outside
	case twoPorts:
		return MapNotByPort, outside
	}
	return MapUnknown, outside
}
