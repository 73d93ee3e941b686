package filter

import "encoding/binary"

// icmpMeaning is what a type of message is to flows.
type icmpMeaning struct {
	kind  kind
	query uint8 // the query it is or answers
	link  bool  // speaks about a link
}

// meaningV4 follows RFC 792 and the IANA registry. A redirect quotes a packet too,
// but it is an order to route otherwise, which no peer may give.
func meaningV4(typ uint8) icmpMeaning {
	switch typ {
	case 8, 0:
		return icmpMeaning{kind: queryKind(typ == 8), query: 8} // echo
	case 13, 14:
		return icmpMeaning{kind: queryKind(typ == 13), query: 13} // timestamp
	case 3, 11, 12: // unreachable, time exceeded, parameter problem
		return icmpMeaning{kind: kindError}
	case 4, 5, 9, 10: // source quench, redirect, router discovery
		return icmpMeaning{link: true}
	}
	return icmpMeaning{kind: kindOneWay}
}

// meaningV6 follows RFC 4443; neighbour discovery and multicast listening
// (RFC 4861, 3810, 4286) end at a link, and the overlay has none.
func meaningV6(typ uint8) icmpMeaning {
	switch {
	case typ >= 1 && typ <= 4: // unreachable, too big, time exceeded, parameter problem
		return icmpMeaning{kind: kindError}
	case typ == 128 || typ == 129:
		return icmpMeaning{kind: queryKind(typ == 128), query: 128} // echo
	case typ >= 130 && typ <= 137, typ == 143, typ >= 148 && typ <= 153:
		return icmpMeaning{link: true}
	}
	return icmpMeaning{kind: kindOneWay}
}

func queryKind(asks bool) kind {
	if asks {
		return kindRequest
	}
	return kindReply
}

func meaning(typ uint8, v6 bool) icmpMeaning {
	if v6 {
		return meaningV6(typ)
	}
	return meaningV4(typ)
}

// icmp fills in what the first eight bytes of a message say about its flow.
func (u *tuple) icmp(b []byte, v6 bool) (link bool) {
	m := meaning(b[0], v6)
	u.kind = m.kind
	switch m.kind {
	case kindRequest, kindReply:
		u.sport, u.dport = binary.BigEndian.Uint16(b[4:]), uint16(m.query)
	case kindOneWay:
		u.dport = 0x100 | uint16(b[0])
	}
	return m.link
}

// parseICMP reads a message, and for an error the header it quotes.
func (p *packet) parseICMP(b []byte, v6 bool) Verdict {
	if len(b) < 8 {
		return Malformed
	}
	if p.icmp(b, v6) {
		return OffLink
	}
	if p.kind != kindError {
		return Accept
	}
	var n network
	if v := n.parse(b[8:], true); v != Accept || n.v6 != v6 {
		return Malformed
	}
	return p.quote.fromQuote(&n)
}

// fromQuote reads the flow of a quoted packet, of which eight bytes of transport
// header are all that is promised (RFC 792). A later fragment has none, and nobody
// sends an error about an error (RFC 1122, 3.2.2): neither names a flow.
func (u *tuple) fromQuote(n *network) Verdict {
	if n.fragOff > 0 || len(n.payload) < 8 {
		return Malformed
	}
	u.src, u.dst, u.proto, u.kind = n.src, n.dst, n.proto, kindOpaque
	switch {
	case n.proto == protoTCP || n.proto == protoUDP:
		u.ports(n.payload)
	case n.proto == protoICMP && !n.v6, n.proto == protoICMPv6 && n.v6:
		if u.icmp(n.payload, n.v6) || u.kind == kindError {
			return Malformed
		}
	}
	return Accept
}
