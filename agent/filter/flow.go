package filter

import (
	"net/netip"
	"time"

	"enclave/wire"
)

// key finds a flow from either end. opener is 1 + the direction of the query for
// ICMP, so that two queries with one identifier in opposite directions are two
// flows, and 0 for protocols in which either end may use the same header.
type key struct {
	local, remote addr
	lport, rport  uint16
	proto         uint8
	opener        uint8
}

// key returns the key of the flow that u belongs to when it travels in d.
func (u *tuple) key(d direction) key {
	k := key{local: u.src, remote: u.dst, lport: u.sport, rport: u.dport, proto: u.proto}
	if d == inbound {
		k.local, k.remote = u.dst, u.src
	}
	switch u.kind {
	case kindPorts, kindOpaque:
		if d == inbound {
			k.lport, k.rport = u.dport, u.sport
		}
	case kindReply:
		k.opener = 1 + uint8(d.reverse())
	default:
		k.opener = 1 + uint8(d)
	}
	return k
}

// state is where a flow is in its life.
type state uint8

const (
	halfOpen   state = iota // only its opener spoke, or the TCP handshake is not over
	open                    // both ends spoke
	halfClosed              // TCP: one end sent FIN
	closing                 // TCP: both did, or one sent RST
	states
)

var stateNames = [states]string{"opening", "open", "half closed", "closing"}

// idleAfter is how long a flow may be silent. TCP: RFC 5382 asks for 2 h 4 min at
// least; a day keeps an idle shell or database connection, and a full table takes
// silent flows first anyway. UDP: RFC 4787 asks for 2 min at least and recommends
// 5. ICMP: RFC 5508 asks for 60 s.
var idleAfter = [...][states]time.Duration{
	wire.Any:  {10 * time.Minute, 10 * time.Minute, 0, 0},
	wire.TCP:  {time.Minute, 24 * time.Hour, time.Hour, 30 * time.Second},
	wire.UDP:  {2 * time.Minute, 5 * time.Minute, 0, 0},
	wire.ICMP: {time.Minute, time.Minute, 0, 0},
}

// flow is one entry of the table. What every packet touches fills the first two
// cache lines, and the size keeps them aligned: with many flows, memory is what a
// packet waits for.
type flow struct {
	peer           *peer
	last           int64     // on the table's own clock
	packets, bytes [2]uint64 // by direction
	gen            uint32    // of the peer's rules when rule was looked up
	proto          wire.Proto
	opener         direction
	state          state
	dead           bool // no rule allows it any more; waits for its cut to be reported
	beyond         bool // one end lies behind a gateway; peer is the other system of the tunnel

	key key
	fin [2]bool
	end [2]tcpEnd // by the end that sent

	// serial tells whether what points here still means the same flow: the memory
	// of a flow is used again after it ends.
	serial uint64
	rule   *rule
	since  int64 // wall clock
	due    int64 // when the idle queue looks again; never after it is really due
	heap   int32 // place in the idle queue
	pos    int32 // place in the list of flows
	_      [24]byte
}

// tcpEnd is what one end of a TCP flow showed of its sequence numbers: enough to
// write a reset that the other end must believe (RFC 9293, 3.10.7.4).
type tcpEnd struct {
	next   uint32 // one past the highest sequence number it sent
	ack    uint32 // its last acknowledgement
	window uint16
	scale  int8 // as offered in its SYN, -1 without
	seen   uint8
}

// What was seen of an end.
const (
	sent  = 1 << iota // next counts
	acked             // ack and window count
)

// port is the destination port that rules are asked about.
func (f *flow) port() uint16 {
	if f.proto != wire.TCP && f.proto != wire.UDP {
		return 0
	}
	if f.opener == outbound {
		return f.key.rport
	}
	return f.key.lport
}

func (f *flow) idle() int64 { return int64(idleAfter[f.proto][f.state]) }

// track moves the state of f by a packet that was let through, and reports whether
// the packet is possible at all. Loose on purpose: the endpoints judge sequence
// numbers, the filter only keeps a flow from outliving them.
func (f *flow) track(p *packet, d direction) bool {
	if f.proto != wire.TCP {
		if d != f.opener && f.state == halfOpen {
			f.state = open
		}
		return true
	}
	syn := p.flags&(tcpSYN|tcpACK) == tcpSYN
	if syn && d != f.opener {
		return false // a simultaneous open is a flow that its receiver starts
	}
	f.end[d].track(p, syn && f.state == halfOpen)
	switch {
	case p.flags&tcpRST != 0:
		f.state = closing
	case p.flags&tcpFIN != 0:
		f.fin[d] = true
		if f.fin[d.reverse()] {
			f.state = closing
		} else if f.state == open {
			f.state = halfClosed
		}
	case f.state == halfOpen && !syn && d == f.opener && f.end[d.reverse()].seen&sent != 0:
		f.state = open
	}
	return true
}

func (e *tcpEnd) track(p *packet, restart bool) {
	if p.flags&tcpRST != 0 {
		return // its numbers may be another connection's
	}
	if end := p.seq + p.seqLen; e.seen&sent == 0 || restart || int32(end-e.next) > 0 {
		e.next = end
		e.seen |= sent
	}
	if p.flags&tcpSYN != 0 {
		e.scale = p.scale
	}
	if p.flags&tcpACK != 0 {
		e.ack, e.window = p.ack, p.window
		e.seen |= acked
		if p.flags&tcpSYN != 0 && e.scale > 0 {
			e.window >>= e.scale // the window of a SYN is not scaled (RFC 7323, 2.2)
		}
	}
}

func (a addr) port(p uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), p)
}

// names returns the flow in the words of the project.
func (f *flow) names() wire.Flow {
	k := &f.key
	src, dst := k.local.port(k.lport), k.remote.port(k.rport)
	if f.proto == wire.ICMP {
		src, dst = k.local.port(0), k.remote.port(0)
	}
	if f.opener == inbound {
		src, dst = dst, src
	}
	return wire.Flow{Proto: f.proto, Src: src, Dst: dst, Policy: f.rule.Policy, Rule: f.rule.Rule}
}
