package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// ErrNoForwarding is returned where the stack cannot take flows to foreign addresses.
var ErrNoForwarding = errors.New("the stock netstack cannot be a gateway: start the agent with --netstack enclave")

// maxOpening is how many TCP flows through a gateway may be opening at once. Each holds
// a goroutine and a dial; further first segments are lost and sent again.
const maxOpening = 512

// forwardBuffer is how many bytes of datagrams a UDP flow through a gateway holds that nobody
// has read yet: the way onward may still be opening.
const forwardBuffer = 64 << 10

// timeWait is how long a closed connection through a gateway keeps its ports. The path
// delivers late segments within a round trip; the next first segment comes after 1 s.
const timeWait = 200 * time.Millisecond

// Forwarder takes the flows that the filter lets through to addresses that are not the
// tunnel's own. Every call has its own goroutine, Echo excepted.
type Forwarder interface {
	// ForwardTCP opens the way to dst, then calls accept, which completes the handshake
	// with src, or refuse, which resets it. It calls one of them.
	ForwardTCP(src, dst netip.AddrPort, accept func() (net.Conn, error), refuse func())
	// ForwardUDP carries the datagrams of c between src and dst until it closes c.
	ForwardUDP(src, dst netip.AddrPort, c net.Conn)
	// Echo takes an ICMP echo request as a whole IP packet. It must not block nor keep it.
	Echo(pkt []byte)
}

// Forward makes the tunnel hand over such flows, for good.
func (t *Tunnel) Forward(f Forwarder) error {
	n, ok := t.stack.(*nic)
	if !ok {
		return ErrNoForwarding
	}
	if err := n.forward(f, t.guard.addrs); err != nil {
		return err
	}
	echo := f.Echo
	t.guard.beyond.Store(&echo)
	return nil
}

// foreign is a second stack of a gateway, which answers for every address but ours. It has
// no sockets that listen, and those of this system's programs are in the other one, so
// that neither can be mistaken for the other. Both send into one queue.
type foreign struct {
	stack *stack.Stack
	port  port
	own   []netip.Addr
}

func (n *nic) forward(f Forwarder, own []netip.Addr) error {
	g := &foreign{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
		}),
		port: port{Endpoint: channel.New(0, uint32(n.mtu), ""), out: n.port.out, done: n.port.done},
		own:  own,
	}
	g.port.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	if err := g.configure(f, n); err != nil {
		g.stack.Close()
		g.stack.Wait()
		return fmt.Errorf("forward: %w", err)
	}
	if !n.gate.CompareAndSwap(nil, g) {
		g.stack.Close()
		g.stack.Wait()
		return errors.New("forward: this tunnel forwards already")
	}
	return nil
}

func (g *foreign) configure(f Forwarder, n *nic) error {
	if err := tune(g.stack, g.port); err != nil {
		return err
	}
	// A first segment for a connection in TIME-WAIT is handed to a listener, and here is
	// none: a sender that takes the same port again would wait for minutes.
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	if terr := g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &wait); terr != nil {
		return errors.New("TIME-WAIT: " + terr.String())
	}
	if terr := g.stack.SetPromiscuousMode(nicID, true); terr != nil {
		return errors.New("promiscuous mode: " + terr.String())
	}
	if terr := g.stack.SetSpoofing(nicID, true); terr != nil {
		return errors.New("spoofing: " + terr.String())
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}, {Destination: header.IPv6EmptySubnet, NIC: nicID}})
	tcpForwarder := tcp.NewForwarder(g.stack, 0, maxOpening, func(r *tcp.ForwarderRequest) {
		src, dst := endsOf(r.ID())
		done := false
		f.ForwardTCP(src, dst, func() (net.Conn, error) {
			done = true
			wq := new(waiter.Queue)
			ep, terr := r.CreateEndpoint(wq)
			if terr != nil {
				r.Complete(true)
				return nil, opError("accept", "tcp", src, terr)
			}
			r.Complete(false)
			return newTCPConn(wq, ep, &n.growth), nil
		}, func() { done = true; r.Complete(true) })
		if !done {
			r.Complete(true)
		}
	})
	g.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcpForwarder.HandlePacket)
	udpForwarder := udp.NewForwarder(g.stack, func(r *udp.ForwarderRequest) bool {
		src, dst := endsOf(r.ID())
		wq := new(waiter.Queue)
		ep, terr := r.CreateEndpoint(wq)
		if terr != nil {
			return true
		}
		c := newUDPSocket(n, ep, wq, forwardBuffer)
		c.peer = src
		c.fetch() // what came with the request
		go f.ForwardUDP(src, dst, c)
		return true
	})
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udpForwarder.HandlePacket)
	return nil
}

func netipOf(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}

// endsOf is who opened a flow, and where to.
func endsOf(id stack.TransportEndpointID) (src, dst netip.AddrPort) {
	return netip.AddrPortFrom(netipOf(id.RemoteAddress), id.RemotePort), netip.AddrPortFrom(netipOf(id.LocalAddress), id.LocalPort)
}

// Send puts a whole IP packet among those that the stack sends; the filter judges it
// like any of them. The packet is copied.
func (t *Tunnel) Send(pkt []byte) {
	if n, ok := t.stack.(*nic); ok {
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(pkt)})
		defer p.DecRef()
		var list stack.PacketBufferList
		list.PushBack(p)
		n.port.WritePackets(list)
	}
}

// isOther reports whether pkt, which the filter has accepted, is for no socket: an echo request,
// an ICMP error or a protocol that nobody carries on. The forwarder takes echoes only.
func isOther(pkt []byte) bool {
	switch {
	case len(pkt) >= header.IPv4MinimumSize && pkt[0]>>4 == 4:
		return pkt[9] != uint8(header.TCPProtocolNumber) && pkt[9] != uint8(header.UDPProtocolNumber)
	case len(pkt) >= header.IPv6MinimumSize && pkt[0]>>4 == 6:
		return pkt[6] == uint8(header.ICMPv6ProtocolNumber)
	}
	return false
}

// destination is where an accepted packet goes.
func destination(pkt []byte) netip.Addr {
	switch {
	case len(pkt) >= header.IPv4MinimumSize && pkt[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(pkt[16:20]))
	case len(pkt) >= header.IPv6MinimumSize && pkt[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(pkt[24:40]))
	}
	return netip.Addr{}
}
