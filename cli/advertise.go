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

// stunPort is where STUN is at home (RFC 8489).
const stunPort = "3478"

// tellSTUN is what agents are told of STUN sockets: what the operator said, else their
// addresses. It warns of one that leads every other machine to itself: agents that no STUN
// server answers take UDP as blocked, and find direct paths within one network only.
func (a *app) tellSTUN(said []string, conns []relay.PacketConn, relayAddr string) []string {
	if said != nil {
		return said
	}
	host, _, _ := net.SplitHostPort(relayAddr)
	out := addresses(conns, relayAddr)
	for _, at := range out {
		if h, port, _ := net.SplitHostPort(at); loopback(h) && !loopback(host) {
			a.warn([]string{"agents on other machines cannot ask STUN at " + at + ", but they reach the relay at " + relayAddr + "; use --stun " + net.JoinHostPort(host, port) + ", or --advertise-stun"})
		}
	}
	return out
}

// loopback reports whether host means this machine and no other.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
