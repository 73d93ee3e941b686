package link

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"enclave/passage"
)

// Network is the ground an agent stands on: the operating system or a simulated
// internet.
type Network interface {
	// ListenUDP opens a socket for IPv6 and IPv4 where there are both. Port 0 is
	// any port.
	ListenUDP(port uint16) (PacketConn, error)
	// DialContext opens a TCP connection; addr is host:port.
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	// LookupHost resolves a name; an address resolves to itself.
	LookupHost(ctx context.Context, host string) ([]netip.Addr, error)
	// Addrs returns the addresses of the interfaces that are up, without loopback
	// and link-local ones.
	Addrs() ([]netip.Addr, error)
}

// dialTCP opens connections to relays, through a proxy where one is named.
func (l *Link) dialTCP() passage.Dial {
	return passage.Through(l.cfg.Network.DialContext, l.cfg.Proxy)
}

// PacketConn is a UDP socket; *net.UDPConn is one. Implementations allow one
// reader beside any number of writers and allocate for neither.
type PacketConn interface {
	ReadFromUDPAddrPort(b []byte) (n int, addr netip.AddrPort, err error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	SetReadDeadline(t time.Time) error
	Close() error
}

// socketBuffer is asked of the kernel for either direction. Bursts of a fast
// sender overflow the default of about 200 KB long before WireGuard can decrypt.
const socketBuffer = 8 << 20

// System returns the network of the operating system.
func System() Network { return system{} }

type system struct{}

func (system) ListenUDP(port uint16) (PacketConn, error) {
	c, err := passage.ListenUDP(&net.UDPAddr{Port: int(port)})
	if err != nil {
		return nil, err
	}
	// Best effort: the kernel caps both without an error to speak of.
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	return c, nil
}

// ListenTCP implements StreamListener.
func (system) ListenTCP(addr string) (net.Listener, error) { return passage.ListenTCP(addr) }

func (system) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

func (system) LookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func (system) Addrs() ([]netip.Addr, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // the interface went away in between
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if ip := p.Addr().Unmap(); err == nil && ip.IsGlobalUnicast() {
				out = append(out, ip)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// resolve turns host:port into addresses, at most max of them.
func resolve(ctx context.Context, n Network, hostport string, max int) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	ips, err := n.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, ip := range ips[:min(len(ips), max)] {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return out, nil
}
