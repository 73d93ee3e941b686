package tunnel

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"
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

// batchLen is how many packets one Read returns and one Write may be given. It is how
// much work one wake-up in WireGuard pays for, and its own ideal.
const batchLen = conn.IdealBatchSize

// Sizes of TCP's windows, in bytes: the least, the default and the most. The stack
// grows a receive window towards the most as a transfer needs it. 6 MiB carry 500
// Mbit/s over 100 ms. What was compared, and why not cubic: decision 0073; which
// connections may grow: growth.
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
	gate            atomic.Pointer[foreign]            // takes what is for foreign addresses; nil: nobody does
	narrow          atomic.Pointer[map[netip.Addr]int] // see pathSizes.limits
	own             []netip.Addr
	ports           udpPorts
	growth          growth
	ident           atomic.Uint32 // of the IPv4 datagrams that sockets make
	mtu             int
	reader          reader
	events          chan tun.Event
	aborted, closed sync.Once
}

// port is the stack's only network interface.
type port struct {
	*channel.Endpoint        // its inbound half; the outbound one is below
	out               *queue // from the stack to nic.Read
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
			out:      new(queue),
			done:     make(chan struct{}),
		},
		own:    slices.Clone(addrs),
		mtu:    mtu,
		events: make(chan tun.Event),
	}
	n.port.out.init()
	n.port.LinkEPCapabilities = stack.CapabilityRXChecksumOffload // the tunnel authenticates
	if err := n.configure(addrs); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *nic) configure(addrs []netip.Addr) error {
	if err := tune(n.stack, n.port); err != nil {
		return err
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

// tune sets up TCP and gives the stack its interface.
func tune(s *stack.Stack, p port) error {
	sack := tcpip.TCPSACKEnabled(true) // off by default; a loss would cost a window
	recovery := tcpip.TCPRecovery(0)   // no RACK: after an outage it sends one lost segment a timeout (decision 0073)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: minWindow, Default: defaultWindow, Max: maxWindow}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: minWindow, Default: defaultWindow, Max: maxWindow}
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &moderate, &rcv, &snd} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("tcp option %T: %s", opt, err)
		}
	}
	if err := s.CreateNICWithOptions(nicID, p, stack.NICOptions{QDisc: straight{p.out}}); err != nil {
		return fmt.Errorf("create interface: %s", err)
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
	return e.out.put(pkts.AsSlice())
}

// straight puts single packets into the queue. Without it gVisor makes a list of each.
type straight struct{ *queue }

func (s straight) WritePacket(p *stack.PacketBuffer) tcpip.Error {
	one := [1]*stack.PacketBuffer{p}
	_, err := s.put(one[:])
	return err
}

func (straight) Close() {} // the queue is the nic's

// SupportedGSO makes TCP hand over segments of up to GSOMaxSize with their checksum left
// open; splitter completes them.
func (port) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize is what an IPv4 header can say, headers included.
func (port) GSOMaxSize() uint32 { return maxMerged }

// Read blocks for one packet and takes what else is ready. WireGuard calls it from one
// goroutine, which therefore owns reader.
func (n *nic) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	r := &n.reader
	for i := 0; ; {
		for ; r.split.pkt != nil && i < len(bufs); i++ {
			sizes[i] = r.split.next(bufs[i][offset:])
		}
		if i == len(bufs) {
			return i, nil
		}
		if r.at == r.n {
			var ok bool
			r.at = 0
			if r.n, ok = n.port.out.take(r.taken[:], i == 0); !ok {
				r.drop()
				return i, os.ErrClosed
			}
			if r.n == 0 {
				return i, nil
			}
		}
		r.split.begin(r.taken[r.at], n.limit(r.taken[r.at]))
		r.taken[r.at] = nil
		r.at++
	}
}

// limit is the size that TCP in p is to be cut to, for a peer with a narrow path; 0: none.
func (n *nic) limit(p *stack.PacketBuffer) int {
	limits := n.narrow.Load()
	if limits == nil {
		return 0
	}
	var own []netip.Addr
	if g := n.gate.Load(); g != nil {
		own = g.own
	}
	return limit(*limits, p.NetworkHeader().Slice(), own)
}

func (n *nic) limits() *atomic.Pointer[map[netip.Addr]int] { return &n.narrow }

// reader is what Read keeps between two calls: a segment that did not fit the batch, and
// packets that were taken from the queue under one lock.
type reader struct {
	split splitter
	taken [16]*stack.PacketBuffer
	at, n int
}

// drop lets go of what was not read.
func (r *reader) drop() {
	r.split.end()
	for ; r.at < r.n; r.at++ {
		r.taken[r.at].DecRef()
	}
}

// Write hands packets to the stack, which copies them.
func (n *nic) Write(bufs [][]byte, offset int) (int, error) {
	m := mergers.Get().(*merger)
	defer mergers.Put(m)
	m.merge(bufs, offset)
	for i := range m.runs {
		r := &m.runs[i]
		pkt := bufs[r.first][offset:]
		var proto tcpip.NetworkProtocolNumber
		switch {
		case len(pkt) == 0:
			continue
		case pkt[0]>>4 == 4:
			proto = ipv4.ProtocolNumber
		case pkt[0]>>4 == 6:
			proto = ipv6.ProtocolNumber
		default:
			return int(r.first), syscall.EAFNOSUPPORT
		}
		if r.size == 0 && n.ports.deliver(pkt) {
			continue
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: m.packet(r, bufs, offset)})
		if g := n.gate.Load(); g != nil && !slices.Contains(g.own, destination(pkt)) {
			g.port.InjectInbound(proto, p)
		} else {
			n.port.InjectInbound(proto, p)
		}
		p.DecRef()
	}
	return len(bufs), nil
}

// Wake calls back a blocked Read.
func (n *nic) Wake() { n.port.out.wake() }

// Abort resets every connection of the stack. Where there was one it gives the resets
// a moment to be read, encrypted and sent: the far end would otherwise wait for a
// timeout.
func (n *nic) Abort() {
	n.aborted.Do(func() {
		connected := n.stack.Stats().TCP.CurrentConnected.Value() > 0
		n.stack.Close()
		if g := n.gate.Load(); g != nil {
			connected = connected || g.stack.Stats().TCP.CurrentConnected.Value() > 0
			g.stack.Close()
		}
		if !connected {
			return
		}
		for late := time.Now().Add(abortFor); time.Now().Before(late); {
			time.Sleep(quietFor)
			if n.port.out.len() == 0 {
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
		n.port.out.close()
		n.stack.Wait()
		if g := n.gate.Load(); g != nil {
			g.stack.Wait()
		}
		close(n.events)
	})
	return nil
}

func (n *nic) File() *os.File           { return nil }
func (n *nic) MTU() (int, error)        { return n.mtu, nil }
func (n *nic) Name() (string, error)    { return "enclave", nil }
func (n *nic) Events() <-chan tun.Event { return n.events }
func (n *nic) BatchSize() int           { return batchLen }
