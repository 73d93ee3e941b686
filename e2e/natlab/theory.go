package natlab

import "slices"

// DirectPossible reports whether two hosts, each behind a NAT of its own, can reach
// a direct UDP path without guessing ports.
//
// The hosts know each other's outside endpoint as a STUN server sees it, send to it
// from the same socket at the same time, repeat, and answer wherever a packet came
// from. The NATs differ in what the two knowledge gaps cost:
//
//   - Mapping. With endpoint-independent mapping the endpoint that STUN saw is the
//     one that the peer must use. Otherwise the NAT opens another one towards the
//     peer, which the peer learns only from a packet that comes through it.
//   - Filtering. Such a packet comes from a port that nobody expected. It passes an
//     endpoint-independent filter always, an address-dependent one once something
//     was sent to that address, and an address-and-port-dependent one never.
//
// Both mappings independent: both ends send to the right endpoint, each opens its
// own filter, and whatever the filters are the second packet passes.
//
// One dependent, A: B's endpoint is right, A's comes from an unexpected port. It
// passes unless B filters by port, and B then answers to where it came from.
//
// Both dependent: A's first packet goes to the mapping that B keeps for STUN. It
// gets in only if B's filter is open to all. B answers through a new mapping; that
// reaches A unless A filters by port. Now both know an endpoint that works, unless
// both map by port: then each answer opens yet another endpoint, for ever. The same
// with the roles exchanged is as good.
//
// A NAT that blocks UDP has no direct path. A firewall without translation has an
// endpoint-independent mapping by definition. Two hosts behind one and the same NAT
// are another matter: they meet on the inside, or by hairpinning. Several NATs in a
// row behave like their Chain.
func DirectPossible(a, b NATConfig) bool {
	if a.UDPBlocked || b.UDPBlocked {
		return false
	}
	am, bm := a.effectiveMapping(), b.effectiveMapping()
	switch {
	case am == EndpointIndependent && bm == EndpointIndependent:
		return true
	case am == EndpointIndependent:
		return a.Filtering != AddressAndPortDependent
	case bm == EndpointIndependent:
		return b.Filtering != AddressAndPortDependent
	}
	if am == AddressAndPortDependent && bm == AddressAndPortDependent {
		return false
	}
	return opensBlind(a, b) || opensBlind(b, a)
}

// opensBlind: first's packet passes second's filter, and the answer passes first's.
func opensBlind(first, second NATConfig) bool {
	return second.Filtering == EndpointIndependent && first.Filtering != AddressAndPortDependent
}

// StreamPossible reports whether a can call b by TCP when b listens at a port of its own
// and nobody has been asked to hand that on: nothing translates or filters before b, and
// what stands before a lets TCP out to that port.
func StreamPossible(a, b NATConfig, port uint16) bool {
	return b.NoTranslation && b.Filtering == EndpointIndependent && (a.TCPPorts == nil || slices.Contains(a.TCPPorts, port))
}

func (c NATConfig) effectiveMapping() Behaviour {
	if c.NoTranslation {
		return EndpointIndependent
	}
	return c.Mapping
}

// Chain is how NATs in a row behave to the world: as the strictest of them, in each
// respect. The order does not matter for DirectPossible.
func Chain(nats ...NATConfig) NATConfig {
	c := NATConfig{NoTranslation: true}
	for _, n := range nats {
		c.NoTranslation = c.NoTranslation && n.NoTranslation
		c.Mapping = max(c.Mapping, n.effectiveMapping())
		c.Filtering = max(c.Filtering, n.Filtering)
		c.UDPBlocked = c.UDPBlocked || n.UDPBlocked
	}
	return c
}
