package tunnel

import (
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// UDPConn is a UDP socket of gVisor's.
type UDPConn struct{ *gonet.UDPConn }

// udpBuffer is how many bytes of datagrams a socket holds that nobody has read yet: over
// 100 ms of 100,000 small ones a second. The stack's own 32 KiB are not one burst.
const udpBuffer = 1 << 20

// DialUDP is as Tunnel.DialUDP.
func (n *nic) DialUDP(dst netip.AddrPort) (net.Conn, error) {
	c, err := n.udp(dst, func(ep tcpip.Endpoint) tcpip.Error { return ep.Connect(fullAddr(dst)) })
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ListenUDP is as Tunnel.ListenUDP.
func (n *nic) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	c, err := n.udp(at, func(ep tcpip.Endpoint) tcpip.Error { return ep.Bind(fullAddr(at)) })
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (n *nic) udp(at netip.AddrPort, attach func(tcpip.Endpoint) tcpip.Error) (*udpSocket, error) {
	wq := new(waiter.Queue)
	ep, terr := n.stack.NewEndpoint(udp.ProtocolNumber, protoOf(at.Addr()), wq)
	if terr != nil {
		return nil, opError("socket", "udp", at, terr)
	}
	ep.SocketOptions().SetReceiveBufferSize(udpBuffer, true)
	c := newUDPSocket(n, ep, wq, udpBuffer)
	if terr := attach(ep); terr != nil {
		ep.Close()
		return nil, opError("attach", "udp", at, terr)
	}
	c.settle()
	return c, nil
}

// Read reads as net.Conn.
func (c *UDPConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	return n, errnoOf(err)
}

// Write writes as net.Conn.
func (c *UDPConn) Write(b []byte) (int, error) {
	n, err := c.UDPConn.Write(b)
	return n, errnoOf(err)
}

// ReadFrom reads as net.PacketConn.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(b)
	return n, from, errnoOf(err)
}
