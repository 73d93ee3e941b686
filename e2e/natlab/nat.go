package natlab

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// nat is the state of one middlebox. It is told the time, it owns no clock and no
// lock; the lab calls it under its own.
type nat struct {
	cfg       NATConfig
	rng       *rand.Rand
	outside   []netip.Addr
	byFlow    map[flowKey]*mapping
	byOutside map[outsideKey]*mapping
	burned    map[outsideKey]struct{} // endpoints that a rebind must not hand out again
	nextPort  uint16
	swept     time.Time
}

// flowKey finds the mapping of an outgoing packet. remote is masked by the mapping
// behaviour: that mask is the whole difference between the kinds of NAT.
type flowKey struct {
	proto  uint8
	inside netip.AddrPort
	remote netip.AddrPort
}

// outsideKey finds the mapping of an incoming packet. Ports are never overloaded
// (RFC 4787, REQ-3), so it needs no remote.
type outsideKey struct {
	proto   uint8
	outside netip.AddrPort
}

// mapping ties an inside endpoint to an outside one.
type mapping struct {
	flow     flowKey
	outside  netip.AddrPort
	expires  time.Time
	fixed    bool // a port forward: never expires, filters nothing
	sessions map[netip.AddrPort]*session
}

// session is what a mapping remembers of one remote endpoint.
type session struct {
	expires time.Time
	tcp     tcpState
}

const (
	maxSessions   = 4096 // per mapping; a scan from the inside must not eat the memory
	sweepInterval = 30 * time.Second
	firstNATPort  = 1024
)

func newNAT(cfg NATConfig, rng *rand.Rand, outside []netip.Addr) *nat {
	n := &nat{cfg: cfg.withDefaults(), rng: rng, outside: outside, nextPort: firstNATPort}
	n.reset()
	return n
}

// reset forgets every mapping but the port forwards.
func (n *nat) reset() {
	old := n.byOutside
	n.byFlow, n.byOutside = map[flowKey]*mapping{}, map[outsideKey]*mapping{}
	n.burned = map[outsideKey]struct{}{}
	for k, m := range old {
		if m.fixed {
			m.sessions = map[netip.AddrPort]*session{}
			n.byFlow[m.flow], n.byOutside[k] = m, m
		}
	}
}

// rebind is reset, and no inside endpoint gets the outside endpoint that it had.
func (n *nat) rebind() {
	burned := map[outsideKey]struct{}{}
	for k, m := range n.byOutside {
		if !m.fixed {
			burned[k] = struct{}{}
		}
	}
	n.reset()
	n.burned = burned
}

// out passes one packet from the inside to the outside: it rewrites b and v, or
// answers why the packet goes no further.
func (n *nat) out(now time.Time, b []byte, v *view) Drop {
	if r := n.admits(v, true); r != Passed {
		return r
	}
	if n.open() {
		return Passed
	}
	if v.icmp == icmpError {
		return n.outError(now, b, v)
	}
	remote := remoteOf(v, v.to())
	inside := v.from()
	m, r := n.obtain(now, v.proto, inside, remote)
	if r != Passed {
		return r
	}
	if !n.touch(now, m, remote, v, true) {
		return DropNATFull
	}
	if !n.cfg.NoTranslation {
		rewrite(b, v, source, m.outside)
	}
	return Passed
}

// in passes one packet from the outside to the inside.
func (n *nat) in(now time.Time, b []byte, v *view) Drop {
	if r := n.admits(v, false); r != Passed {
		return r
	}
	if n.open() {
		return Passed
	}
	if v.icmp == icmpError {
		return n.inError(now, b, v)
	}
	remote := remoteOf(v, v.from())
	m := n.byOutside[outsideKey{v.proto, v.to()}]
	if m == nil || m.dead(now) {
		return DropNoMapping
	}
	if !m.lets(now, n.cfg.Filtering, remote) {
		return DropFiltered
	}
	n.touch(now, m, remote, v, false)
	if !n.cfg.NoTranslation {
		rewrite(b, v, destination, m.flow.inside)
	}
	return Passed
}

// open reports a plain router, which keeps no state.
func (n *nat) open() bool {
	return n.cfg.NoTranslation && n.cfg.Filtering == EndpointIndependent
}

// admits applies what the box forbids whatever its state.
func (n *nat) admits(v *view, outward bool) Drop {
	switch {
	case v.fragment:
		return DropFragment
	case v.proto == protoUDP:
		if n.cfg.UDPBlocked {
			return DropBlocked
		}
	case v.proto == protoTCP:
		if outward && n.cfg.TCPPorts != nil && !slices.Contains(n.cfg.TCPPorts, v.dport) {
			return DropBlocked
		}
	case v.icmp == icmpOther:
		if !n.open() {
			return DropProtocol
		}
	}
	return Passed
}

// remoteOf drops the identifier of ICMP echo, which is the inside's alone.
func remoteOf(v *view, remote netip.AddrPort) netip.AddrPort {
	if v.icmp != icmpOther {
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// obtain finds or makes the mapping of an outgoing packet.
func (n *nat) obtain(now time.Time, proto uint8, inside, remote netip.AddrPort) (*mapping, Drop) {
	flow := flowKey{proto, inside, n.mappingMask(remote)}
	if m := n.byFlow[flow]; m != nil {
		if !m.dead(now) {
			return m, Passed
		}
		n.drop(m)
	} else if m := n.byFlow[flowKey{proto: proto, inside: inside}]; m != nil && m.fixed {
		return m, Passed // a forwarded port answers from the port that was called
	}
	if n.swept.IsZero() {
		n.swept = now
	}
	if full := len(n.byFlow) >= n.cfg.MaxMappings; full || now.Sub(n.swept) >= sweepInterval {
		n.sweep(now)
		if len(n.byFlow) >= n.cfg.MaxMappings {
			return nil, DropNATFull
		}
	}
	outside, ok := inside, true
	if !n.cfg.NoTranslation {
		outside, ok = n.allocate(proto, inside)
	}
	if !ok {
		return nil, DropNATFull
	}
	m := &mapping{flow: flow, outside: outside, sessions: map[netip.AddrPort]*session{}}
	n.byFlow[flow], n.byOutside[outsideKey{proto, outside}] = m, m
	return m, Passed
}

// mappingMask: a box that does not translate maps every endpoint to itself.
func (n *nat) mappingMask(remote netip.AddrPort) netip.AddrPort {
	if n.cfg.NoTranslation {
		return netip.AddrPort{}
	}
	return n.cfg.Mapping.mask(remote)
}

// allocate picks a free outside endpoint.
func (n *nat) allocate(proto uint8, inside netip.AddrPort) (netip.AddrPort, bool) {
	const ports = 65536 - firstNATPort
	// The host part of the inside address picks the outside address, so that one
	// host keeps one address for all its flows ("paired" pooling, REQ-2).
	a4 := inside.Addr().As4()
	addr := n.outside[int(a4[3])%len(n.outside)]
	var start uint16
	switch n.cfg.Ports {
	case PortPreserving:
		start = inside.Port()
	case PortSequential:
		start = n.nextPort
	case PortRandom:
		start = uint16(firstNATPort + n.rng.IntN(ports))
	}
	if start < firstNATPort && proto != protoICMP4 {
		start += firstNATPort // RFC 4787 REQ-3a: not into the well-known range
	}
	for i := range ports {
		port := uint16(firstNATPort + (int(start)-firstNATPort+i+ports)%ports)
		k := outsideKey{proto, netip.AddrPortFrom(addr, port)}
		if _, burned := n.burned[k]; n.byOutside[k] == nil && !burned {
			if n.cfg.Ports == PortSequential {
				n.nextPort = max(port+1, firstNATPort)
			}
			return k.outside, true
		}
	}
	return netip.AddrPort{}, false
}

// touch renews m and its session with remote. It answers false when m has no room
// for one more remote.
func (n *nat) touch(now time.Time, m *mapping, remote netip.AddrPort, v *view, outward bool) bool {
	s := m.sessions[remote]
	if s != nil && !now.Before(s.expires) {
		s.tcp = 0
	}
	if s == nil {
		if !outward && m.flow.proto != protoTCP {
			// A stranger that an open filter let in earns no permission of its own;
			// it renews the mapping, if anything.
			if n.cfg.InboundRefresh {
				m.expires = later(m.expires, now.Add(n.idle(m.flow.proto, 0)))
			}
			return true
		}
		if len(m.sessions) >= maxSessions {
			m.forget(now)
			if len(m.sessions) >= maxSessions {
				return false
			}
		}
		s = &session{}
		m.sessions[remote] = s
	}
	closing := false
	if m.flow.proto == protoTCP {
		before := s.tcp
		s.tcp = s.tcp.next(v.flags, outward)
		closing = !before.closed() && s.tcp.closed()
	} else if !outward && !n.cfg.InboundRefresh {
		return true
	}
	s.expires = now.Add(n.idle(m.flow.proto, s.tcp))
	if closing {
		m.expires = now
		for _, s := range m.sessions {
			m.expires = later(m.expires, s.expires)
		}
	} else {
		m.expires = later(m.expires, s.expires)
	}
	return true
}

// idle is how long a session of this kind may stay silent.
func (n *nat) idle(proto uint8, t tcpState) time.Duration {
	switch {
	case proto == protoUDP:
		return n.cfg.UDPTimeout
	case proto == protoTCP && t.established():
		return n.cfg.TCPTimeout
	case proto == protoTCP:
		return n.cfg.TCPTransitory
	}
	return n.cfg.ICMPTimeout
}

// forward makes a permanent mapping that everyone may use.
func (n *nat) forward(proto uint8, port uint16, inside netip.AddrPort) {
	m := &mapping{
		flow:     flowKey{proto: proto, inside: inside},
		outside:  netip.AddrPortFrom(n.outside[0], port),
		fixed:    true,
		sessions: map[netip.AddrPort]*session{},
	}
	if n.cfg.NoTranslation {
		m.outside = inside
	}
	k := outsideKey{proto, m.outside}
	for _, old := range []*mapping{n.byFlow[m.flow], n.byOutside[k]} {
		if old != nil {
			n.drop(old)
		}
	}
	n.byFlow[m.flow], n.byOutside[k] = m, m
}

func (n *nat) drop(m *mapping) {
	delete(n.byFlow, m.flow)
	delete(n.byOutside, outsideKey{m.flow.proto, m.outside})
}

func (n *nat) sweep(now time.Time) {
	n.swept = now
	for _, m := range n.byFlow {
		if m.dead(now) {
			n.drop(m)
		} else {
			m.forget(now)
		}
	}
}

func (m *mapping) dead(now time.Time) bool { return !m.fixed && !now.Before(m.expires) }

// lets applies the filtering behaviour to a packet from remote.
func (m *mapping) lets(now time.Time, f Behaviour, remote netip.AddrPort) bool {
	if f == EndpointIndependent || m.fixed {
		return true
	}
	if s := m.sessions[remote]; s != nil && now.Before(s.expires) {
		return true
	}
	if f == AddressAndPortDependent {
		return false
	}
	for r, s := range m.sessions {
		if r.Addr() == remote.Addr() && now.Before(s.expires) {
			return true
		}
	}
	return false
}

// forget removes the sessions that have run out.
func (m *mapping) forget(now time.Time) {
	for r, s := range m.sessions {
		if !now.Before(s.expires) {
			delete(m.sessions, r)
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
