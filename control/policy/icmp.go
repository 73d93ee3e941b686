package policy

// Types of ICMP messages; the two families number them apart (RFC 792, RFC 4443).

// icmpReplyTo returns the type that answers a request of type t.
func icmpReplyTo(v6 bool, t uint8) (reply uint8, ok bool) {
	if v6 {
		switch t {
		case 128, 133, 135, 139: // echo, router and neighbour solicitation, node information
			return t + 1, true
		}
		return 0, false
	}
	switch t {
	case 8: // echo
		return 0, true
	case 10: // router solicitation
		return 9, true
	case 13, 15, 17: // timestamp, information, address mask
		return t + 1, true
	}
	return 0, false
}

// icmpIsReply reports whether t answers some request.
func icmpIsReply(v6 bool, t uint8) bool {
	_, ok := icmpRequestOf(v6, t)
	return ok
}

// icmpIsError reports whether t quotes the header of another packet.
func icmpIsError(v6 bool, t uint8) bool {
	if v6 {
		return t >= 1 && t <= 4
	}
	return t == 3 || t == 4 || t == 5 || t == 11 || t == 12
}

// icmpRequestOf returns the type that t answers.
func icmpRequestOf(v6 bool, t uint8) (request uint8, ok bool) {
	for q := range 256 {
		if reply, ok := icmpReplyTo(v6, uint8(q)); ok && reply == t {
			return uint8(q), true
		}
	}
	return 0, false
}

// icmpEcho is the type of an echo request or reply.
func icmpEcho(v6, reply bool) uint8 {
	switch {
	case v6 && reply:
		return 129
	case v6:
		return 128
	case reply:
		return 0
	}
	return 8
}
