package wire

import (
	"net/netip"
	"strings"
)

// Subscriber is the addresses by which callers are told apart and bounded: one of IPv4, or
// the /64 of one of IPv6, which is what a subscriber has at least (RFC 6177) and calls from
// anywhere in.
func Subscriber(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // fails for no address only, which has no prefix
	return p
}

// SubscriberOf is Subscriber for the text of a remote address, with or without its port.
// What is no address stands for itself, without what looks like a port.
func SubscriberOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	a := at.Addr()
	if err != nil {
		a, err = netip.ParseAddr(remote)
	}
	if err != nil {
		host, _, _ := strings.Cut(remote, ":")
		return host
	}
	p := Subscriber(a)
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
