package natlab

import (
	"fmt"
	"net/netip"
	"time"
)

// Network is a place that hosts and routers hang on: the Internet, or the inside
// of a router. Within it every address reaches every other.
type Network struct {
	lab     *Lab
	label   string
	gateway *Router // nil for the Internet
	byAddr  map[netip.Addr]*port
	routes  []route
	self4   netip.Addr // the router's own address here, which signs ICMP errors
	self6   netip.Addr
	prefix4 netip.Prefix
	prefix6 netip.Prefix // invalid without IPv6
	next4   netip.Addr
	next6   netip.Addr
}

// route sends a delegated prefix to the router that it was delegated to.
type route struct {
	prefix netip.Prefix
	port   *port
}

func newNetwork(l *Lab, label string) *Network {
	n := &Network{lab: l, label: label, byAddr: map[netip.Addr]*port{}}
	n.setPrefix(l.alloc.core4, l.alloc.core6)
	return n
}

func (n *Network) setPrefix(p4, p6 netip.Prefix) {
	n.prefix4, n.prefix6 = p4, p6
	if p4.IsValid() {
		n.self4 = p4.Masked().Addr().Next()
		n.next4 = n.self4.Next()
	}
	if p6.IsValid() {
		n.self6 = p6.Masked().Addr().Next()
		n.next6 = n.self6.Next()
	}
}

func (n *Network) String() string { return n.label }

// Prefixes answers the addresses that belong here: IPv4, and IPv6 if there is any.
func (n *Network) Prefixes() []netip.Prefix {
	if n.prefix6.IsValid() {
		return []netip.Prefix{n.prefix4, n.prefix6}
	}
	return []netip.Prefix{n.prefix4}
}

// attach hangs pt on n with count fresh IPv4 addresses and, if asked for, one of
// IPv6.
func (n *Network) attach(pt *port, count int, v6 bool) {
	pt.net = n
	pt.addrs = nil
	for range count {
		pt.addrs = append(pt.addrs, n.take4())
	}
	if v6 && n.prefix6.IsValid() {
		pt.addrs = append(pt.addrs, n.next6)
		n.next6 = n.next6.Next()
	}
	for _, a := range pt.addrs {
		n.byAddr[a] = pt
	}
}

// take4 hands out the next IPv4 address. Addresses are never handed out twice, so
// that a late packet cannot reach whoever came after.
func (n *Network) take4() netip.Addr {
	if n.gateway == nil && (!n.prefix4.Contains(n.next4) || !n.prefix4.Contains(n.next4.Next())) {
		n.prefix4 = n.lab.alloc.moreCore()
		n.next4 = n.prefix4.Addr().Next()
	}
	a := n.next4
	if !n.prefix4.Contains(a) || !n.prefix4.Contains(a.Next()) {
		panic(fmt.Sprintf("natlab: network %s has no address left in %v", n.label, n.prefix4))
	}
	n.next4 = a.Next()
	return a
}

func (n *Network) detach(pt *port) {
	for _, a := range pt.addrs {
		delete(n.byAddr, a)
	}
	pt.net = nil
}

// find answers the port that dst is reached through, or nil.
func (n *Network) find(dst netip.Addr) *port {
	if pt := n.byAddr[dst]; pt != nil {
		return pt
	}
	for _, r := range n.routes {
		if r.prefix.Contains(dst) {
			return r.port
		}
	}
	return nil
}

// route sends p on from this network. from is where it came in: a port of n, or nil
// when n's own router brought it.
func (n *Network) route(now time.Time, p *packet, from *port) {
	var v view
	if !parse(p.data, &v) {
		n.lab.discard(now, n.label, p, DropMalformed)
		return
	}
	if pt := n.find(v.dst); pt != nil && pt != from {
		if n.gateway == nil && !decTTL(p.data) {
			n.refuse(now, causeTTL, 0, p.data, &v)
			n.lab.discard(now, n.label, p, DropTTL)
			return
		}
		n.lab.transmit(now, pt, down, p)
		return
	}
	if n.gateway == nil || from == nil {
		n.lab.discard(now, n.label, p, DropNoRoute)
		return
	}
	n.gateway.outward(now, p, &v)
}

// refuse sends an ICMP error about a packet to its sender, from n's own address.
func (n *Network) refuse(now time.Time, cause icmpCause, mtu int, offending []byte, v *view) {
	self := n.self4
	if v.v6 {
		self = n.self6
	}
	if !self.IsValid() {
		return
	}
	p := n.lab.get(nil)
	if p.data = appendICMPError(p.data, cause, mtu, self, offending, v); p.data == nil {
		return
	}
	var e view
	if n.gateway != nil && n.find(v.src) == nil && parse(p.data, &e) {
		n.gateway.outward(now, p, &e)
		return
	}
	n.route(now, p, nil)
}
