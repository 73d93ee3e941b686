package tunnel

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nicID = 1

const (
	// queueLen is how many packets the stack may have waiting for WireGuard. A full
	// queue blocks the sender, which is how a slow path pushes back on TCP without
	// a loss; a longer one only adds delay.
	queueLen = 128
	// batchLen is how many packets one Read returns. WireGuard keeps a 64 KiB buffer
	// per slot, so this is 1 MiB a tunnel; BenchmarkTCP shows little beyond it.
	batchLen = 16
)

// Sizes of TCP's windows, in bytes: the least, the default and the most. The stack
// grows a receive window towards the most as a transfer needs it. 6 MiB carry 500
// Mbit/s over 100 ms.
const (
	minWindow     = 4 << 10
	defaultWindow = 1 << 20
	maxWindow     = 6 << 20
)

// nic is our own ipStack: gVisor, put together so that nothing of it is hidden
// (decision 0070).
type nic struct {
	stack           *stack.Stack
	port            port
	mtu             int
	wake            chan struct{} // capacity 1: a wake-up is never lost
	events          chan tun.Event
	aborted, closed sync.Once
}

// port is the stack's only network interface.
type port struct {
	*channel.Endpoint                          // its inbound half; the outbound one is below
	out               chan *stack.PacketBuffer // from the stack to nic.Read
	done              chan struct{}
}

func newNIC(addrs []netip.Addr, mtu int) (*nic, error) {
	n := &nic{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
			HandleLocal:        true, // a system reaches its own services without a policy
		}),
		port: port{
			Endpoint: channel.New(0, uint32(mtu), ""),
			out:      make(chan *stack.PacketBuffer, queueLen),
			done:     make(chan struct{}),
		},
		mtu:    mtu,
		wake:   make(chan struct{}, 1),
		events: make(chan tun.Event),
	}
	if err := n.configure(addrs); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *nic) configure(addrs []netip.Addr) error {
	sack := tcpip.TCPSACKEnabled(true) // off by default; a loss would cost a window
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: minWindow, Default: defaultWindow, Max: maxWindow}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: minWindow, Default: defaultWindow, Max: maxWindow}
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &rcv, &snd} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("tcp option %T: %s", opt, err)
		}
	}
	if err := n.stack.CreateNIC(nicID, n.port); err != nil {
		return fmt.Errorf("create interface: %s", err)
	}
	for _, a := range addrs {
		addr := tcpip.ProtocolAddress{
			Protocol:          protoOf(a),
			AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
		}
		if err := n.stack.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("address %s: %s", a, err)
		}
		everything := header.IPv4EmptySubnet
		if a.Is6() {
			everything = header.IPv6EmptySubnet
		}
		n.stack.AddRoute(tcpip.Route{Destination: everything, NIC: nicID})
	}
	return nil
}

func protoOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func fullAddr(ap netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(ap.Addr().AsSlice()), Port: ap.Port()}
}

// WritePackets is how the stack sends. The packets are kept by reference.
func (e port) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for i, p := range pkts.AsSlice() {
		select {
		case e.out <- p.IncRef():
		case <-e.done:
			p.DecRef()
			return i, &tcpip.ErrClosedForSend{}
		}
	}
	return pkts.Len(), nil
}

// Read blocks for one packet and takes what else is ready.
func (n *nic) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	var p *stack.PacketBuffer
	select {
	case p = <-n.port.out:
	case <-n.wake:
		return 0, nil
	case <-n.port.done:
		return 0, os.ErrClosed
	}
	for i := 0; ; {
		sizes[i] = copyPacket(bufs[i][offset:], p)
		p.DecRef()
		if i++; i == len(bufs) || i == batchLen {
			return i, nil
		}
		select {
		case p = <-n.port.out:
		default:
			return i, nil
		}
	}
}

// copyPacket walks the parts of p itself: the stack's own helpers allocate.
func copyPacket(dst []byte, p *stack.PacketBuffer) int {
	views, skip := p.AsViewList()
	size := 0
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		size += copy(dst[size:], b[skip:])
		skip = 0
	}
	return size
}

// Write hands packets to the stack, which copies them.
func (n *nic) Write(bufs [][]byte, offset int) (int, error) {
	for i, buf := range bufs {
		pkt := buf[offset:]
		var proto tcpip.NetworkProtocolNumber
		switch {
		case len(pkt) == 0:
			continue
		case pkt[0]>>4 == 4:
			proto = ipv4.ProtocolNumber
		case pkt[0]>>4 == 6:
			proto = ipv6.ProtocolNumber
		default:
			return i, syscall.EAFNOSUPPORT
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(pkt)})
		n.port.InjectInbound(proto, p)
		p.DecRef()
	}
	return len(bufs), nil
}

// Wake calls back a blocked Read.
func (n *nic) Wake() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Abort resets every connection of the stack. Where there was one it gives the resets
// a moment to be read, encrypted and sent: the far end would otherwise wait for a
// timeout.
func (n *nic) Abort() {
	n.aborted.Do(func() {
		connected := n.stack.Stats().TCP.CurrentConnected.Value() > 0
		n.stack.Close()
		if !connected {
			return
		}
		for late := time.Now().Add(abortFor); time.Now().Before(late); {
			time.Sleep(quietFor)
			if len(n.port.out) == 0 {
				return
			}
		}
	})
}

// Close ends the stack and every goroutine in it. The queue to Read is never closed:
// a sender that is under way finds done instead of a closed channel, which would
// panic (decision 0070).
func (n *nic) Close() error {
	n.closed.Do(func() {
		n.Abort()
		close(n.port.done)
		n.stack.Wait()
		close(n.events)
	})
	return nil
}

func (n *nic) File() *os.File           { return nil }
func (n *nic) MTU() (int, error)        { return n.mtu, nil }
func (n *nic) Name() (string, error)    { return "enclave", nil }
func (n *nic) Events() <-chan tun.Event { return n.events }
func (n *nic) BatchSize() int           { return batchLen }
