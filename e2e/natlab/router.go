package natlab

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Router joins an inside network to an outside one and does to packets what its
// NATConfig says.
type Router struct {
	lab   *Lab
	label string
	cfg   NATConfig
	port  *port // its outside
	lan   *Network
	nat   *nat
	fw6   *nat // nil without IPv6
}

// Router hangs a router with the given behaviour on parent. Routers on the inside
// of other routers make a carrier-grade NAT.
func (l *Lab) Router(name string, parent *Network, cfg NATConfig) *Router {
	if err := cfg.Validate(); err != nil {
		panic(fmt.Sprintf("natlab: router %s: %v", name, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.routers[name] != nil {
		panic(fmt.Sprintf("natlab: router %s exists already", name))
	}
	cfg = cfg.withDefaults()
	r := &Router{lab: l, label: name, cfg: cfg}
	r.port = l.newPort(r, cfg.Uplink, cfg.Uplink)
	parent.attach(r.port, cfg.Addresses, cfg.IPv6)
	r.lan = &Network{lab: l, label: name + " lan", gateway: r, byAddr: map[netip.Addr]*port{}}
	p4, p6 := cfg.Prefix, netip.Prefix{}
	if !p4.IsValid() && cfg.NoTranslation {
		p4 = l.alloc.public4()
	} else if !p4.IsValid() {
		p4 = l.alloc.private4()
	}
	if cfg.NoTranslation {
		parent.delegate(p4, r.port)
	}
	if cfg.IPv6 && parent.prefix6.IsValid() {
		p6 = l.alloc.public6()
		parent.delegate(p6, r.port)
		fw := cfg
		fw.NoTranslation, fw.Mapping = true, EndpointIndependent
		r.fw6 = newNAT(fw, l.rng(name+"/fw6"), nil)
	}
	r.lan.setPrefix(p4, p6)
	var outside []netip.Addr
	for _, a := range r.port.addrs {
		if a.Is4() {
			outside = append(outside, a)
		}
	}
	r.nat = newNAT(cfg, l.rng(name+"/nat"), outside)
	l.routers[name] = r
	return r
}

// Behind is the inside of a fresh router on the Internet.
func (l *Lab) Behind(cfg NATConfig) *Network {
	l.mu.Lock()
	name := fmt.Sprintf("router%d", len(l.routers)+1)
	l.mu.Unlock()
	return l.Router(name, l.internet, cfg).LAN()
}

// delegate routes a prefix to a router here, and to here from further up.
func (n *Network) delegate(p netip.Prefix, pt *port) {
	n.routes = append(n.routes, route{p, pt})
	if n.gateway != nil {
		n.gateway.port.net.delegate(p, n.gateway.port)
	}
}

func (r *Router) name() string   { return r.label }
func (r *Router) String() string { return r.label }

// LAN is the network behind the router.
func (r *Router) LAN() *Network { return r.lan }

// Router answers the router in front of n, nil for the Internet.
func (n *Network) Router() *Router { return n.gateway }

// Addrs answers the outside addresses.
func (r *Router) Addrs() []netip.Addr {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	return slices.Clone(r.port.addrs)
}

// Config answers the behaviour, defaults filled in.
func (r *Router) Config() NATConfig { return r.cfg }

// outward takes a packet from the inside.
func (r *Router) outward(now time.Time, p *packet, v *view) {
	l := r.lab
	if v.dst == r.lan.self4 || v.dst == r.lan.self6 {
		r.answer(now, p, v, r.lan)
		return
	}
	if !decTTL(p.data) {
		r.lan.refuse(now, causeTTL, 0, p.data, v)
		l.discard(now, r.label, p, DropTTL)
		return
	}
	if pp := &r.port.pipes[up].cfg; len(p.data) > pp.MTU {
		if !pp.Blackhole {
			r.lan.refuse(now, causeTooBig, pp.MTU, p.data, v)
		}
		l.discard(now, r.label, p, DropMTU)
		return
	}
	if v.v6 {
		if r.fw6 == nil {
			l.discard(now, r.label, p, DropNoRoute)
			return
		}
		r.leave(now, p, r.fw6.out(now, p.data, v))
		return
	}
	if r.cfg.IPv4Lost {
		l.discard(now, r.label, p, DropBlocked)
		return
	}
	hairpin := !r.cfg.NoTranslation && slices.Contains(r.port.addrs, v.dst)
	if hairpin && !r.cfg.Hairpin {
		l.discard(now, r.label, p, DropHairpin)
		return
	}
	why := r.nat.out(now, p.data, v)
	if !hairpin {
		r.leave(now, p, why)
		return
	}
	if why == Passed {
		why = r.nat.in(now, p.data, v)
	}
	r.enter(now, p, why)
}

// receive takes a packet from the outside.
func (r *Router) receive(now time.Time, p *packet) {
	l := r.lab
	l.show(now, r.label, p.data, Inbound, Passed)
	var v view
	if !parse(p.data, &v) {
		l.discard(now, r.label, p, DropMalformed)
		return
	}
	if v.v6 {
		if slices.Contains(r.port.addrs, v.dst) {
			r.answer(now, p, &v, r.port.net)
		} else if r.fw6 == nil {
			l.discard(now, r.label, p, DropNoRoute)
		} else {
			r.forward(now, p, &v, r.fw6)
		}
		return
	}
	if v.icmp == icmpRequest && slices.Contains(r.port.addrs, v.dst) {
		r.answer(now, p, &v, r.port.net)
		return
	}
	r.forward(now, p, &v, r.nat)
}

func (r *Router) forward(now time.Time, p *packet, v *view, n *nat) {
	if !decTTL(p.data) {
		r.port.net.refuse(now, causeTTL, 0, p.data, v)
		r.lab.discard(now, r.label, p, DropTTL)
		return
	}
	r.enter(now, p, n.in(now, p.data, v))
}

// leave sends p out unless why names a reason not to.
func (r *Router) leave(now time.Time, p *packet, why Drop) {
	if why != Passed {
		r.lab.discard(now, r.label, p, why)
		return
	}
	r.lab.show(now, r.label, p.data, Outbound, Passed)
	r.lab.transmit(now, r.port, up, p)
}

// enter sends p to the inside unless why names a reason not to.
func (r *Router) enter(now time.Time, p *packet, why Drop) {
	if why != Passed {
		r.lab.discard(now, r.label, p, why)
		return
	}
	r.lan.route(now, p, nil)
}

// answer replies to an echo request to the router itself.
func (r *Router) answer(now time.Time, p *packet, v *view, to *Network) {
	if v.icmp != icmpRequest {
		r.lab.discard(now, r.label, p, DropNoSocket)
		return
	}
	reply := r.lab.get(nil)
	reply.data = appendReply(reply.data, p.data, v)
	r.lab.put(p)
	if to == r.lan {
		r.lan.route(now, reply, nil)
		return
	}
	r.leave(now, reply, Passed)
}

// Forward makes a permanent mapping (a "port forward") from the router's outside
// port to an inside host, proto "udp" or "tcp".
func (r *Router) Forward(proto string, port uint16, h *Host, inside uint16) {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	number := uint8(protoUDP)
	if proto == "tcp" {
		number = protoTCP
	}
	r.nat.forward(number, port, netip.AddrPortFrom(h.addr4(), inside))
}

// Rebind loses all mappings at once, and no flow gets its old outside port back.
func (r *Router) Rebind() {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	r.nat.rebind()
	if r.fw6 != nil {
		r.fw6.reset()
	}
}

// Reboot takes the router away for as long as it boots; all mappings are lost.
func (r *Router) Reboot(outage time.Duration) {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	r.port.downUntil = time.Now().Add(outage)
	r.nat.reset()
	if r.fw6 != nil {
		r.fw6.reset()
	}
}

// Disconnect cuts the router's uplink: the inside still talks among itself.
func (r *Router) Disconnect() { r.lab.setDown(r.port, true) }

// Reconnect ends Disconnect.
func (r *Router) Reconnect() { r.lab.setDown(r.port, false) }

// SetUplink changes both directions of the uplink.
func (r *Router) SetUplink(c LinkConfig) error { return r.lab.setLink(r.port, c, c) }

// Mappings answers how many mappings the NAT holds, dead ones included until the
// next sweep.
func (r *Router) Mappings() int {
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	return len(r.nat.byFlow)
}

func (l *Lab) newPort(n node, upward, downward LinkConfig) *port {
	pt := &port{lab: l, node: n}
	pt.pipes[up] = pipe{cfg: upward.withDefaults(), rng: l.rng(n.name() + "/up")}
	pt.pipes[down] = pipe{cfg: downward.withDefaults(), rng: l.rng(n.name() + "/down")}
	return pt
}

func (l *Lab) setDown(pt *port, v bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pt.down = v
}

func (l *Lab) setLink(pt *port, upward, downward LinkConfig) error {
	if err := upward.Validate(); err != nil {
		return fmt.Errorf("link up: %w", err)
	}
	if err := downward.Validate(); err != nil {
		return fmt.Errorf("link down: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	pt.pipes[up].cfg, pt.pipes[down].cfg = upward.withDefaults(), downward.withDefaults()
	return nil
}
