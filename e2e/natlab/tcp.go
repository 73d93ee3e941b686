package natlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// ListenTCP accepts connections on all addresses of the host, IPv4 only or IPv4 and
// IPv6 as the host has them. Port 0 picks a free one.
func (h *Host) ListenTCP(port uint16) (net.Listener, error) {
	return h.ListenTCPAddrPort(netip.AddrPortFrom(netip.Addr{}, port))
}

// ListenTCPAddrPort accepts connections on one address of the host.
func (h *Host) ListenTCPAddrPort(local netip.AddrPort) (net.Listener, error) {
	fail := func(err error) error {
		return &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(local), Err: err}
	}
	if h.streams != nil {
		l, err := h.listenStream(local)
		if err != nil {
			return nil, fail(err)
		}
		return l, nil
	}
	s, err := h.netstack()
	if err != nil {
		return nil, fail(err)
	}
	addr := local.Addr().Unmap()
	if addr.IsValid() && !addr.IsUnspecified() {
		l, err := listenReused(s.stack, full(netip.AddrPortFrom(addr, local.Port())), family(addr))
		if err != nil {
			return nil, fail(err)
		}
		return &listener{TCPListener: l, host: h}, nil
	}
	// A socket of the IPv6 family bound to no address hears IPv4 too.
	l, err := listenReused(s.stack, tcpip.FullAddress{NIC: nic, Port: local.Port()}, ipv6.ProtocolNumber)
	if err != nil {
		return nil, fail(err)
	}
	return &listener{TCPListener: l, host: h}, nil
}

// backlog is how many connections wait to be accepted, as gonet has it.
const backlog = 4096

// listenReused is gonet.ListenTCP with the port of connections that linger reused, as package
// net asks of Unix: a server that is started again has its port at once.
func listenReused(s *stack.Stack, at tcpip.FullAddress, family tcpip.NetworkProtocolNumber) (*gonet.TCPListener, error) {
	var wq waiter.Queue
	ep, err := s.NewEndpoint(tcp.ProtocolNumber, family, &wq)
	if err != nil {
		return nil, errors.New(err.String())
	}
	ep.SocketOptions().SetReuseAddress(true)
	if err = ep.Bind(at); err == nil {
		err = ep.Listen(backlog)
	}
	if err != nil {
		ep.Close()
		return nil, errors.New(err.String())
	}
	return gonet.NewTCPListener(s, &wq, ep), nil
}

// DialContext connects to "ip:port" or "name:port", over "tcp", "tcp4", "tcp6" or
// "udp". It fits http.Transport.DialContext.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	fail := func(err error) error {
		return &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: %w", address, err)}
	}
	remotes, err := h.resolve(network, address)
	if err != nil {
		return nil, fail(err)
	}
	if strings.HasPrefix(network, "udp") {
		c, err := h.dialUDP(remotes[0])
		if err != nil {
			return nil, fail(err)
		}
		return c, nil
	}
	dial := h.dialStream
	if h.streams == nil {
		s, err := h.netstack()
		if err != nil {
			return nil, fail(err)
		}
		dial = s.dial
	}
	c, err := dialFirst(ctx, remotes, dial)
	if err != nil {
		return nil, fail(err)
	}
	return c, nil
}

func (s *netstack) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := gonet.DialContextTCP(ctx, s.stack, full(to), family(to.Addr()))
	if err == nil {
		return &tcpConn{TCPConn: c}, nil
	}
	if known := knownError(err); known != nil {
		err = known
	}
	return nil, err
}

// resolve answers the endpoints of address that h has an address family for.
func (h *Host) resolve(network, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", service, err)
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a.Unmap()}
	} else if addrs, err = h.lab.Resolve(host); err != nil {
		return nil, err
	}
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	var out []netip.AddrPort
	for _, a := range addrs {
		wanted := !strings.HasSuffix(network, "4") && a.Is6() || !strings.HasSuffix(network, "6") && a.Is4()
		if wanted && h.firstAddr(a.Is6()).IsValid() {
			out = append(out, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	if out == nil {
		return nil, errNoAddress
	}
	return out, nil
}

func full(ap netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(ap.Addr().AsSlice()), Port: ap.Port()}
}

func family(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

// udpFlow is a connected UDP socket.
type udpFlow struct {
	*UDPConn
	remote netip.AddrPort
}

func (h *Host) dialUDP(remote netip.AddrPort) (net.Conn, error) {
	c, err := h.ListenUDP(0)
	if err != nil {
		return nil, err
	}
	return &udpFlow{c, remote}, nil
}

func (f *udpFlow) Read(b []byte) (int, error) {
	for {
		n, from, err := f.ReadFromUDPAddrPort(b)
		if err != nil || from == f.remote {
			return n, err
		}
	}
}

func (f *udpFlow) Write(b []byte) (int, error) { return f.WriteToUDPAddrPort(b, f.remote) }
func (f *udpFlow) RemoteAddr() net.Addr        { return net.UDPAddrFromAddrPort(f.remote) }
