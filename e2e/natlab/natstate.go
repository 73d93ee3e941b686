package natlab

import (
	"net/netip"
	"time"
)

// tcpState is how much of a TCP connection a NAT has seen. It follows the flags
// loosely, as RFC 5382 asks: sequence numbers are the endpoints' business.
type tcpState uint8

const (
	tcpOut     tcpState = 1 << iota // something went out
	tcpIn                           // something came in
	tcpFinOut                       // the inside said FIN
	tcpFinIn                        // the outside said FIN
	tcpAborted                      // either side said RST
)

func (t tcpState) next(flags uint8, outward bool) tcpState {
	if flags&tcpSYN != 0 && flags&tcpACK == 0 && t.closed() {
		t = 0 // the endpoints opened the same flow once more
	}
	if flags&tcpRST != 0 {
		return t | tcpAborted
	}
	seen, fin := tcpIn, tcpFinIn
	if outward {
		seen, fin = tcpOut, tcpFinOut
	}
	t |= seen
	if flags&tcpFIN != 0 {
		t |= fin
	}
	return t
}

func (t tcpState) closed() bool {
	return t&tcpAborted != 0 || t&(tcpFinIn|tcpFinOut) == tcpFinIn|tcpFinOut
}

func (t tcpState) established() bool {
	return t&(tcpIn|tcpOut) == tcpIn|tcpOut && !t.closed()
}

// inError translates an ICMP error about a packet that went out through a mapping
// (RFC 5508, REQ-4). Filtering does not apply: any router on the way may send it.
func (n *nat) inError(now time.Time, b []byte, v *view) Drop {
	var inner view
	if !parseIP(b[v.l4+8:v.end], &inner, true) || inner.v6 != v.v6 || inner.src != v.dst {
		return DropMalformed
	}
	m := n.byOutside[outsideKey{inner.proto, inner.from()}]
	if m == nil || m.dead(now) {
		return DropNoMapping
	}
	if m.sessions[remoteOf(&inner, inner.to())] == nil {
		return DropFiltered
	}
	if !n.cfg.NoTranslation {
		rewriteQuoted(b, v, &inner, source, m.flow.inside)
		rewrite(b, v, destination, netip.AddrPortFrom(m.flow.inside.Addr(), 0))
	}
	return Passed
}

// outError translates an ICMP error that an inside host sends about a packet that
// came in through a mapping. One about anything else goes no further.
func (n *nat) outError(now time.Time, b []byte, v *view) Drop {
	var inner view
	if !parseIP(b[v.l4+8:v.end], &inner, true) || inner.v6 != v.v6 {
		return DropMalformed
	}
	if n.cfg.NoTranslation {
		return Passed
	}
	remote := remoteOf(&inner, inner.from())
	m := n.byFlow[flowKey{inner.proto, inner.to(), n.mappingMask(remote)}]
	if m == nil || m.dead(now) {
		return DropNoMapping
	}
	rewriteQuoted(b, v, &inner, destination, m.outside)
	rewrite(b, v, source, netip.AddrPortFrom(m.outside.Addr(), 0))
	return Passed
}
