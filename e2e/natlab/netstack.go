package natlab

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	nic       = 1
	tcpQueue  = 4096        // packets between the switch and the netstack: two full receive windows
	tcpWindow = 1024 * 1024 // bytes; enough for 80 Mbit/s at 100 ms
)

// netstack is the TCP half of a host.
type netstack struct {
	host  *Host
	stack *stack.Stack
	link  *netLink
	in    *queue
	ended chan struct{} // closed when pump has returned

	// mu guards addrs, the addresses that the stack was told of.
	mu    sync.Mutex
	addrs []netip.Addr
}

// netstack answers the host's stack and makes it at the first call.
func (h *Host) netstack() (*netstack, error) {
	h.lab.mu.Lock()
	if h.closed || h.lab.closed {
		h.lab.mu.Unlock()
		return nil, errHostGone
	}
	s := h.tcp
	mtu := h.port.mtu(up)
	h.lab.mu.Unlock()
	if s != nil {
		return s, nil
	}
	// The stack is made outside the lock, since it may send while it is set up. Two
	// first calls at once make two, and the second one loses.
	s, err := newNetstack(h, mtu)
	if err != nil {
		return nil, err
	}
	s.syncAddrs()
	h.lab.mu.Lock()
	winner := h.tcp
	gone := h.closed || h.lab.closed
	if winner == nil && !gone {
		h.tcp, winner = s, s
	}
	h.lab.mu.Unlock()
	if winner != s {
		s.close()
	}
	if gone {
		return nil, errHostGone
	}
	return winner, nil
}

func newNetstack(h *Host, mtu int) (*netstack, error) {
	s := &netstack{
		host: h,
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
			HandleLocal:        true,
		}),
		in:    newQueue(tcpQueue),
		ended: make(chan struct{}),
	}
	s.link = &netLink{host: h}
	s.link.mtu.Store(uint32(mtu))
	sack, adapt := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	window := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: tcpWindow, Max: 4 * tcpWindow}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: tcpWindow, Max: 4 * tcpWindow}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &adapt, &window, &send} {
		if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return nil, fmt.Errorf("netstack of %s: %T: %v", h, o, err)
		}
	}
	if err := s.stack.CreateNIC(nic, s.link); err != nil {
		return nil, fmt.Errorf("netstack of %s: nic: %v", h, err)
	}
	s.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	go s.pump()
	return s, nil
}

// syncAddrs gives the stack the addresses that the host has now.
func (s *netstack) syncAddrs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.host.Addrs()
	for _, a := range s.addrs {
		if !slices.Contains(now, a) {
			s.stack.RemoveAddress(nic, tcpip.AddrFromSlice(a.AsSlice()))
		}
	}
	for _, a := range now {
		if !slices.Contains(s.addrs, a) {
			s.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
				Protocol:          family(a),
				AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
			}, stack.AddressProperties{})
		}
	}
	s.addrs = now
}

// pump feeds the stack. It is a goroutine of its own, since the switch must not call
// into the stack with its lock held.
func (s *netstack) pump() {
	defer close(s.ended)
	for {
		p, err := s.in.pop()
		if err != nil {
			return
		}
		number := header.IPv4ProtocolNumber
		if p.data[0]>>4 == 6 {
			number = header.IPv6ProtocolNumber
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p.data)})
		s.host.lab.put(p)
		s.link.deliver(number, pkt)
		pkt.DecRef()
	}
}

// close ends all connections and waits for the stack's goroutines.
func (s *netstack) close() {
	s.in.close()
	<-s.ended
	s.stack.Close()
	s.stack.Wait()
}

// deliverTCP hands a packet to the netstack. A host that never used TCP refuses, as
// a machine without listeners does.
func (h *Host) deliverTCP(now time.Time, p *packet, v *view) {
	if h.streams != nil && h.deliverStream(now, p, v) {
		return
	}
	if h.tcp != nil {
		if !h.tcp.in.push(p) {
			h.lab.discard(now, h.label, p, DropQueue)
		}
		return
	}
	if v.proto == protoTCP && v.flags&tcpRST == 0 {
		reset := h.lab.get(nil)
		reset.data = appendReset(reset.data, p.data, v)
		h.emit(now, reset)
	}
	h.lab.discard(now, h.label, p, DropNoSocket)
}

// netLink is the network card of a netstack: it puts packets on the switch at once.
type netLink struct {
	host *Host
	mtu  atomic.Uint32

	// mu guards dispatcher. It is not held while packets are delivered.
	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

var _ stack.LinkEndpoint = (*netLink)(nil)

func (e *netLink) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	l := e.host.lab
	n := 0
	for _, pkt := range list.AsSlice() {
		p := l.get(nil)
		for _, part := range pkt.AsSlices() {
			p.data = append(p.data, part...)
		}
		l.mu.Lock()
		e.host.emit(time.Now(), p)
		l.mu.Unlock()
		n++
	}
	return n, nil
}

func (e *netLink) deliver(number tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	e.mu.RLock()
	d := e.dispatcher
	e.mu.RUnlock()
	if d != nil {
		d.DeliverNetworkPacket(number, pkt)
	}
}

func (e *netLink) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dispatcher = d
}

func (e *netLink) IsAttached() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.dispatcher != nil
}

func (e *netLink) MTU() uint32                                  { return e.mtu.Load() }
func (e *netLink) SetMTU(mtu uint32)                            { e.mtu.Store(mtu) }
func (e *netLink) MaxHeaderLength() uint16                      { return 0 }
func (e *netLink) LinkAddress() tcpip.LinkAddress               { return "" }
func (e *netLink) SetLinkAddress(tcpip.LinkAddress)             {}
func (e *netLink) Capabilities() stack.LinkEndpointCapabilities { return 0 } // checksums are real
func (e *netLink) ARPHardwareType() header.ARPHardwareType      { return header.ARPHardwareNone }
func (e *netLink) AddHeader(*stack.PacketBuffer)                {}
func (e *netLink) ParseHeader(*stack.PacketBuffer) bool         { return true }
func (e *netLink) Wait()                                        {}
func (e *netLink) Close()                                       {}
func (e *netLink) SetOnCloseAction(func())                      {}
