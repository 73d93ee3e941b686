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
	for request := range 256 {
		if reply, ok := icmpReplyTo(v6, uint8(request)); ok && reply == t {
			return true
		}
	}
	return false
}

// icmpIsError reports whether t quotes the header of another packet.
func icmpIsError(v6 bool, t uint8) bool {
	if v6 {
		return t >= 1 && t <= 4
	}
	return t == 3 || t == 4 || t == 5 || t == 11 || t == 12
}
