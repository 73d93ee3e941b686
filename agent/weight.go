package agent

import "enclave/wire"

// weight is no more than the bytes of m as a message, and a fixed part of what m takes of
// memory: the fixed fields of an entry are counted at less than their shortest text.
func weight(m *wire.Map) int {
	n := len(m.Self.Name) + len(m.Self.Zone) + each(m.Self.Tags, 2) + each(m.DNS.Zones, 2) + 16*len(m.Self.Routes)
	for i := range m.Relays {
		n += 16 + len(m.Relays[i].ID) + len(m.Relays[i].Addr) + each(m.Relays[i].STUN, 2)
	}
	for i := range m.Peers {
		n += weightOf(&m.Peers[i])
	}
	return n
}

func weightOf(p *wire.Peer) int {
	n := 224 + len(p.ID) + len(p.Name) + len(p.KeySignature) + len(p.Ticket) +
		32*len(p.Reach.Candidates) + len(p.Reach.Relay) + len(p.Reach.NAT) + each(p.Reach.Unreachable, 2) + each(p.Names, 2)
	for _, der := range p.SVID {
		n += 2 + len(der)
	}
	for i := range p.Forwards {
		n += 16 + len(p.Forwards[i].Zone) + 8*len(p.Forwards[i].Resolvers)
	}
	for i := range p.Grants {
		g := &p.Grants[i]
		n += 48 + len(g.From) + len(g.To) + len(g.Policy) + len(g.Name) + len(g.Ends) + len(g.Priority) +
			2*len(g.Ports) + 8*len(g.Subnets) + 8*len(g.Within) + each(g.Names, 2)
	}
	return n
}

// each is the length of all texts, with as much for each.
func each[T ~string](list []T, more int) (n int) {
	for _, s := range list {
		n += len(s) + more
	}
	return n
}
