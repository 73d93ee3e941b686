package passage

import (
	"context"
	"net"
	"strconv"
	"syscall"
)

// Package net tells whether one socket can carry both families by trying 127.0.0.1, and
// takes IPv4 alone for the unspecified address when that fails: also on a machine that has
// IPv6 alone, where nothing then arrives and nothing ever leaves. What follows asks for an
// IPv6 socket there that carries whatever there is.

// ListenTCP is net.Listen, and takes callers of both families at an unspecified address.
func ListenTCP(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil || !onlyFour(l.Addr()) {
		return l, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close() // it has the port
	both := both()
	if six, err := both.Listen(context.Background(), "tcp6", everywhere(port)); err == nil {
		return six, nil
	}
	return net.Listen("tcp", addr)
}

// ListenUDP is net.ListenUDP, and opens a socket for both families at an unspecified
// address.
func ListenUDP(at *net.UDPAddr) (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp", at)
	if err != nil || !onlyFour(c.LocalAddr()) {
		return c, err
	}
	port := c.LocalAddr().(*net.UDPAddr).Port
	c.Close()
	both := both()
	if six, err := both.ListenPacket(context.Background(), "udp6", everywhere(port)); err == nil {
		return six.(*net.UDPConn), nil
	}
	return net.ListenUDP("udp", at)
}

// onlyFour reports whether a socket is bound to all addresses of IPv4 and to none of IPv6.
func onlyFour(a net.Addr) bool {
	var ip net.IP
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	return ip.To4() != nil && ip.IsUnspecified()
}

func everywhere(port int) string { return net.JoinHostPort("::", strconv.Itoa(port)) }

func both() net.ListenConfig {
	return net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if bad := raw.Control(func(fd uintptr) { err = bothFamilies(fd) }); bad != nil {
			return bad
		}
		return err
	}}
}
