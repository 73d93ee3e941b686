package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxSpec bounds the text of a flag, in bytes: two of the longest names and ports.
const maxSpec = 600

// Forward says where to listen on this machine and what on the overlay to reach.
type Forward struct {
	Network string         // "tcp" or "udp"
	Listen  netip.AddrPort // loopback unless the user wrote another address
	Target  string         // host:port on the overlay
}

// Expose says which overlay port leads to which target on this machine.
type Expose struct {
	Network string // "tcp" or "udp"
	Port    uint16 // on the tunnel's addresses
	Target  string // host:port
}

// ParseForward reads LISTEN=HOST:PORT[/udp], where LISTEN is as for ParseListen:
//
//	127.0.0.1:5432=db.enclave:5432
//	5353=dns.enclave:53/udp
func ParseForward(s string) (Forward, error) {
	f, err := parseForward(s)
	if err != nil {
		return Forward{}, fmt.Errorf("forward %.100q: %w", s, err)
	}
	return f, nil
}

func parseForward(s string) (f Forward, err error) {
	left, right, network, err := splitSpec(s, "LISTEN=HOST:PORT, for example 127.0.0.1:5432=db.enclave:5432")
	if err != nil {
		return f, err
	}
	f.Network = network
	if f.Listen, err = ParseListen(left); err != nil {
		return f, err
	}
	f.Target, err = parseTarget(right)
	return f, err
}

// ParseExpose reads PORT=HOST:PORT[/udp], or PORT alone for the same port of this
// machine:
//
//	8080=127.0.0.1:9000
//	53=127.0.0.1:53/udp
func ParseExpose(s string) (Expose, error) {
	e, err := parseExpose(s)
	if err != nil {
		return Expose{}, fmt.Errorf("expose %.100q: %w", s, err)
	}
	return e, nil
}

func parseExpose(s string) (e Expose, err error) {
	if !strings.Contains(s, "=") {
		port, suffix, _ := strings.Cut(s, "/")
		if s = port + "=127.0.0.1:" + port; suffix != "" {
			s += "/" + suffix
		}
	}
	left, right, network, err := splitSpec(s, "PORT=HOST:PORT, for example 8080=127.0.0.1:9000")
	if err != nil {
		return e, err
	}
	e.Network = network
	if e.Port, err = parsePort(left); err != nil {
		return e, err
	}
	e.Target, err = parseTarget(right)
	return e, err
}

// String is the form that ParseForward reads.
func (f Forward) String() string { return f.Listen.String() + "=" + f.Target + suffix(f.Network) }

// String is the form that ParseExpose reads.
func (e Expose) String() string {
	return strconv.Itoa(int(e.Port)) + "=" + e.Target + suffix(e.Network)
}

func suffix(network string) string {
	if network == "udp" {
		return "/udp"
	}
	return ""
}

// ParseListen reads PORT, :PORT or ADDRESS:PORT. Without an address it is 127.0.0.1:
// whoever reaches a proxy reaches the overlay with this system's rights. Port 0 lets
// the system choose.
func ParseListen(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = "", s
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen on %.80q: write an IP address, or only a port for 127.0.0.1", s)
	}
	n, err := parsePort(port)
	if err != nil && port != "0" {
		return netip.AddrPort{}, fmt.Errorf("listen on %.80q: %w", s, err)
	}
	return netip.AddrPortFrom(addr.Unmap(), n), nil
}

func splitSpec(s, form string) (left, right, network string, err error) {
	if len(s) > maxSpec {
		return "", "", "", fmt.Errorf("longer than %d bytes", maxSpec)
	}
	left, right, ok := strings.Cut(s, "=")
	if !ok || left == "" || right == "" {
		return "", "", "", errors.New("want " + form)
	}
	right, proto, given := strings.Cut(right, "/")
	switch {
	case !given, proto == "tcp":
		return left, right, "tcp", nil
	case proto == "udp":
		return left, right, "udp", nil
	}
	return "", "", "", fmt.Errorf("protocol %.20q: want tcp or udp", proto)
}

// parseTarget checks host:port and returns its canonical form.
func parseTarget(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("target %.80q: want HOST:PORT", s)
	}
	n, err := parsePort(port)
	if err != nil {
		return "", fmt.Errorf("target %.80q: %w", s, err)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), n).String(), nil
	}
	if !validHost(host) {
		return "", fmt.Errorf("target %.80q: the host is neither a name nor an address", s)
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.Itoa(int(n))), nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' {
		return 0, fmt.Errorf("port %.20q: want a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// validHost accepts what may stand in a DNS name (RFC 1035 section 2.3.4, and the
// underscore of service records). Whether the name exists is the Dialer's to say.
func validHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}
