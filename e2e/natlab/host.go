package natlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Host is one machine. Its sockets outlive its addresses: see MoveTo.
type Host struct {
	lab   *Lab
	label string
	opts  hostOptions

	// All below is guarded by lab.mu.
	port      *port
	fw        *nat // a firewall of its own, or nil
	udp       map[netip.AddrPort]*UDPConn
	nextPort  uint16
	pings     map[uint16]chan<- struct{}
	nextPing  uint16
	pmtu      map[netip.Addr]int // what "too big" errors said
	suspended bool
	wakeUp    sync.Cond // of suspended; L is lab.mu
	closed    bool
	watchers  map[int]func()
	nextWatch int
	tcp       *netstack // nil until first used
	streams   *streams  // TCP in a lab for bubbles; else nil
}

// maxPMTU bounds what a host remembers of path MTUs.
const maxPMTU = 256

type hostOptions struct {
	addrs    int
	v6       bool
	link     LinkConfig
	firewall *NATConfig
}

// HostOption changes how Lab.Host makes a host.
type HostOption func(*hostOptions)

// Addresses gives the host n IPv4 addresses; a STUN server needs two.
func Addresses(n int) HostOption { return func(o *hostOptions) { o.addrs = n } }

// DualStack gives a host on the Internet an IPv6 address too. Behind a router with
// IPv6 every host has one.
func DualStack() HostOption { return func(o *hostOptions) { o.v6 = true } }

// Over gives the host this link, in both directions.
func Over(c LinkConfig) HostOption { return func(o *hostOptions) { o.link = c } }

// Firewalled puts a stateful firewall onto the host itself.
func Firewalled() HostOption {
	return func(o *hostOptions) {
		c := Firewall()
		o.firewall = &c
	}
}

// Host makes a host on network. Its name resolves as name and name.lab.
func (l *Lab) Host(name string, network *Network, options ...HostOption) *Host {
	o := hostOptions{addrs: 1}
	for _, f := range options {
		f(&o)
	}
	if err := o.link.Validate(); err != nil {
		panic(fmt.Sprintf("natlab: host %s: %v", name, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hosts[name] != nil {
		panic(fmt.Sprintf("natlab: host %s exists already", name))
	}
	h := &Host{
		lab: l, label: name, opts: o,
		udp:      map[netip.AddrPort]*UDPConn{},
		pings:    map[uint16]chan<- struct{}{},
		pmtu:     map[netip.Addr]int{},
		watchers: map[int]func(){},
		nextPort: firstEphemeral,
	}
	h.wakeUp.L = &l.mu
	if l.cfg.Bubble {
		h.initStreams()
	}
	h.port = l.newPort(h, o.link, o.link)
	network.attach(h.port, o.addrs, o.v6 || network.gateway != nil)
	if o.firewall != nil {
		h.fw = newNAT(*o.firewall, l.rng(name+"/fw"), nil)
	}
	l.hosts[name], l.names[name], l.names[name+".lab"] = h, h, h
	return h
}

func (h *Host) name() string   { return h.label }
func (h *Host) String() string { return h.label }

// Addrs answers the host's own addresses, private ones behind a NAT, IPv4 first.
func (h *Host) Addrs() []netip.Addr {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	return slices.Clone(h.port.addrs)
}

// Awake waits until the host is not suspended: what runs on it does nothing meanwhile.
func (h *Host) Awake() {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	for h.suspended && !h.closed {
		h.wakeUp.Wait()
	}
}

// Network answers where the host is.
func (h *Host) Network() *Network {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	return h.port.net
}

func (h *Host) addr4() netip.Addr { return h.firstAddr(false) }

func (h *Host) firstAddr(v6 bool) netip.Addr {
	for _, a := range h.port.addrs {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

// emit sends what the host made. p is taken over.
func (h *Host) emit(now time.Time, p *packet) {
	l := h.lab
	p.origin = h
	l.show(now, h.label, p.data, Outbound, Passed)
	var v view
	if !parse(p.data, &v) {
		l.discard(now, h.label, p, DropMalformed)
		return
	}
	if h.suspended || h.closed {
		l.discard(now, h.label, p, DropDown)
		return
	}
	if slices.Contains(h.port.addrs, v.dst) {
		h.deliver(now, p, &v)
		return
	}
	if h.fw != nil {
		if why := h.fw.out(now, p.data, &v); why != Passed {
			l.discard(now, h.label, p, why)
			return
		}
	}
	l.transmit(now, h.port, up, p)
}

// receive takes a packet off the host's link.
func (h *Host) receive(now time.Time, p *packet) {
	l := h.lab
	var v view
	if !parse(p.data, &v) {
		l.discard(now, h.label, p, DropMalformed)
		return
	}
	if !slices.Contains(h.port.addrs, v.dst) {
		l.discard(now, h.label, p, DropNoRoute)
		return
	}
	if h.suspended || h.closed {
		l.discard(now, h.label, p, DropDown)
		return
	}
	if _, cut := l.cut[pair{p.origin, h}]; cut {
		l.discard(now, h.label, p, DropPartition)
		return
	}
	if h.fw != nil {
		if why := h.fw.in(now, p.data, &v); why != Passed {
			l.discard(now, h.label, p, why)
			return
		}
	}
	l.show(now, h.label, p.data, Inbound, Passed)
	h.deliver(now, p, &v)
}

// deliver hands a packet that is for h to whoever waits for it.
func (h *Host) deliver(now time.Time, p *packet, v *view) {
	l := h.lab
	if !v.fragment && !v.transportSumOK(p.data) {
		l.discard(now, h.label, p, DropChecksum)
		return
	}
	l.count(p.origin, h, len(p.data))
	switch {
	case v.fragment:
		l.discard(now, h.label, p, DropFragment)
	case v.proto == protoUDP:
		h.deliverUDP(now, p, v)
	case v.proto == protoTCP:
		h.deliverTCP(now, p, v)
	case v.icmp == icmpRequest:
		reply := l.get(nil)
		reply.data = appendReply(reply.data, p.data, v)
		l.put(p)
		h.emit(now, reply)
	case v.icmp == icmpReply:
		if c := h.pings[v.sport]; c != nil {
			select {
			case c <- struct{}{}:
			default: // capacity 1: the first answer is the one that counts
			}
		}
		l.put(p)
	case v.icmp == icmpError:
		h.deliverError(now, p, v)
	default:
		l.discard(now, h.label, p, DropProtocol)
	}
}

// deliverError learns from an ICMP error, and shows it to the netstack if it is
// about TCP.
func (h *Host) deliverError(now time.Time, p *packet, v *view) {
	var inner view
	if !parseIP(p.data[v.l4+8:v.end], &inner, true) {
		h.lab.discard(now, h.label, p, DropMalformed)
		return
	}
	if inner.proto == protoTCP && h.streams == nil {
		h.deliverTCP(now, p, v)
		return
	}
	if mtu := tooBigMTU(p.data, v); mtu >= 576 && len(h.pmtu) < maxPMTU {
		h.pmtu[inner.dst] = mtu
	}
	h.lab.put(p)
}

// PathMTU answers the largest packet that h believes to reach dst: the MTU of its
// own link, or less once a "too big" error named dst.
func (h *Host) PathMTU(dst netip.Addr) int {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	return h.pathMTU(dst)
}

func (h *Host) pathMTU(dst netip.Addr) int {
	mtu := h.port.mtu(up)
	if m, ok := h.pmtu[dst]; ok {
		mtu = min(mtu, m)
	}
	return mtu
}

// Inject sends a raw IP packet as if h had made it, however wrong it is.
func (h *Host) Inject(raw []byte) error {
	if len(raw) > MaxPacket {
		return fmt.Errorf("inject: %d bytes are more than %d", len(raw), MaxPacket)
	}
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	h.emit(time.Now(), h.lab.get(raw))
	return nil
}

// Ping sends one echo request to dst and waits for the reply.
func (h *Host) Ping(ctx context.Context, dst netip.Addr) (time.Duration, error) {
	answer := make(chan struct{}, 1) // one request, one reply; duplicates are dropped
	h.lab.mu.Lock()
	src := h.firstAddr(dst.Is6())
	if !src.IsValid() {
		h.lab.mu.Unlock()
		return 0, fmt.Errorf("ping %v: %w", dst, errNoAddress)
	}
	h.nextPing++
	id := h.nextPing
	h.pings[id] = answer
	p := h.lab.get(nil)
	p.data = appendEcho(p.data, src, dst, false, id, 1, nil)
	start := time.Now()
	h.emit(start, p)
	h.lab.mu.Unlock()
	defer func() {
		h.lab.mu.Lock()
		delete(h.pings, id)
		h.lab.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return 0, fmt.Errorf("ping %v: %w", dst, ctx.Err())
	case <-answer:
		return time.Since(start), nil
	}
}

// Close ends the host for good: its sockets close and it answers nothing more.
func (h *Host) Close() error {
	h.lab.mu.Lock()
	h.closed = true
	h.lab.mu.Unlock()
	h.closeSockets()
	return nil
}

func (h *Host) closeSockets() {
	h.lab.mu.Lock()
	conns := make([]*UDPConn, 0, len(h.udp))
	for _, c := range h.udp {
		conns = append(conns, c)
	}
	h.closed = true
	h.wakeUp.Broadcast()
	tcp := h.tcp
	if h.streams != nil {
		h.streams.shut()
	}
	h.lab.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	if tcp != nil {
		tcp.close()
	}
}

var (
	errNoAddress = errors.New("no address of that family")
	errHostGone  = fmt.Errorf("host is closed: %w", net.ErrClosed)
)
