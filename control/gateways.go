package control

import (
	"fmt"
	"maps"
	"slices"
)

// unpermitted lists gateways that a policy names for what they may not carry; mu is held.
func (h *hub) unpermitted() (list []string) {
	for id, p := range h.policies {
		if p.served == nil || !p.served.Enabled || len(p.served.Gateways) == 0 {
			continue
		}
		lacking := h.engine.Lacking(id)
		for _, gate := range slices.Sorted(maps.Keys(lacking)) {
			more := ""
			if n := len(lacking[gate]); n > 1 {
				more = fmt.Sprintf(" and more (%d ranges)", n)
			}
			list = append(list, fmt.Sprintf("policy %s %q names gateway %s for %s%s, which it may not carry: "+
				"\"enclave system route add %s SUBNET\", or take it out of the policy", id, p.Name, gate, lacking[gate][0], more, gate))
		}
	}
	return list
}
