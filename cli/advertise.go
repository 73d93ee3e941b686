package cli

import (
	"net"
	"net/netip"
	"strconv"

	"enclave/relay"
)

const noAddressToTell = "--listen %s takes every address, so agents cannot be told one"

// everyAddress reports whether who listens at host does so at all addresses.
func everyAddress(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// toldOthers refuses a host that means something on this machine alone: the zone of a
// link-local address is the name of one of its interfaces (RFC 4007, section 6).
func toldOthers(flag, host string) error {
	if ip, err := netip.ParseAddr(host); err != nil || ip.Zone() == "" {
		return nil
	}
	return usage("%s %.80s is link-local: its zone names an interface of this machine, so agents cannot be told it", flag, host).
		hint("give an address that other machines reach, also a private one (fd00::/8), or a name")
}

// addresses are how agents reach the sockets that listenSTUN opened. One that takes every
// address is reached where the relay is.
func addresses(conns []relay.PacketConn, relayAddr string) (out []string) {
	host, _, _ := net.SplitHostPort(relayAddr)
	for _, c := range conns {
		at := c.(*net.UDPConn).LocalAddr().(*net.UDPAddr)
		text := at.String()
		if at.IP.IsUnspecified() && host != "" {
			text = net.JoinHostPort(host, strconv.Itoa(at.Port))
		}
		out = append(out, text)
	}
	return out
}
