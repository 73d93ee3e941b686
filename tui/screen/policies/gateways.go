package policies

import (
	"fmt"
	"net/netip"
	"strings"

	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

// writeGateways writes "office=192.168.1.0/24; backup=10.0.0.0/8".
func writeGateways(p *wire.Policy, s *screen.State) string {
	list := make([]string, len(p.Gateways))
	for i, g := range p.Gateways {
		list[i] = nameOf(s, g.System) + "=" + strings.Join(g.Subnets, ",")
	}
	return strings.Join(list, "; ")
}

// nameOf is the name of a system that readGateways reads back, else its ID.
func nameOf(s *screen.State, id wire.SystemID) string {
	for i := range s.Org.Systems {
		if sys := &s.Org.Systems[i]; sys.ID == id && !strings.ContainsAny(sys.Name, "=;") {
			if found, err := system(s, sys.Name); err == nil && found.ID == id {
				return sys.Name
			}
		}
	}
	return string(id)
}

// readGateways reads gateways in their order; one without subnets gets the routes that
// it has, as they stand now.
func readGateways(p *wire.Policy, text string, s *screen.State) error {
	p.Gateways = []wire.GatewayRoute{}
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, list, given := strings.Cut(part, "=")
		sys, err := system(s, strings.TrimSpace(name))
		if err != nil {
			return err
		}
		g := wire.GatewayRoute{System: sys.ID, Subnets: []string{}}
		for _, subnet := range commas(list) {
			if _, err := netip.ParsePrefix(subnet); err != nil {
				if _, err := netip.ParseAddr(subnet); err != nil {
					return fmt.Errorf("%.40s: want a subnet such as 192.168.1.0/24", subnet)
				}
			}
			g.Subnets = append(g.Subnets, subnet)
		}
		if !given {
			for _, r := range sys.Routes {
				g.Subnets = append(g.Subnets, r.Shown().String())
			}
			if len(sys.Routes) == 0 {
				return fmt.Errorf("%s may carry nothing yet: name subnets, %s=192.168.1.0/24", name, name)
			}
		}
		p.Gateways = append(p.Gateways, g)
	}
	if len(p.Gateways) == 0 && p.ID == "" {
		return fmt.Errorf("name at least one gateway: office=192.168.1.0/24")
	}
	return nil
}

// system finds a system by its ID or the name that only it has.
func system(s *screen.State, name string) (*api.System, error) {
	var found *api.System
	for i := range s.Org.Systems {
		sys := &s.Org.Systems[i]
		if string(sys.ID) == name {
			return sys, nil
		}
		if sys.Name == name {
			if found != nil {
				return nil, fmt.Errorf("%s is the name of several systems: give an ID", name)
			}
			found = sys
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no system is called %.40q", name)
	}
	return found, nil
}
