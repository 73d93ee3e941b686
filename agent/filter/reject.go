package filter

import "time"

// An answer to a refusal is a courtesy, and a flood must not turn it into work:
// this many at once, and this often, in each direction.
const (
	answerBurst = 64
	answerEvery = int64(10 * time.Millisecond)
)

// bucket is a token bucket; its zero value is full.
type bucket struct {
	full int64 // the instant at which it is full again
}

func (b *bucket) take(now int64) bool {
	full := max(b.full, now) + answerEvery
	if full-now > answerBurst*answerEvery {
		return false
	}
	b.full = full
	return true
}

// RejectOut returns what to hand to the local stack for a packet that Out refused
// with v, or nil: a program that may not connect learns so at once. TCP gets a
// reset, UDP an ICMP error; whatever is malformed or spoofed gets nothing.
func (t *Table) RejectOut(pkt []byte, v Verdict, now time.Time) []byte {
	switch v {
	case UnknownPeer, NoRule, Unsolicited, Expired, TableFull:
		return t.answer(pkt, outbound, now)
	}
	return nil
}

// RejectIn returns what to send to the peer for a packet that In refused with v, or
// nil. Only a TCP segment of no live flow is answered, by a reset: this system was
// started again or forgot the flow, and the peer would otherwise wait minutes to
// find out. A refused opening is not: the two maps may differ for a moment, and the
// peer's next attempt a second later then succeeds.
func (t *Table) RejectIn(pkt []byte, v Verdict, now time.Time) []byte {
	if v != Unsolicited {
		return nil
	}
	return t.answer(pkt, inbound, now)
}

func (t *Table) answer(pkt []byte, d direction, now time.Time) []byte {
	var p packet
	if p.parse(pkt) != Accept || p.kind != kindPorts || p.fragmented || p.flags&tcpRST != 0 ||
		(p.proto == protoUDP && d == inbound) {
		return nil
	}
	t.mu.Lock()
	t.tick(now)
	ok := t.answers[d].take(t.clock.own)
	t.mu.Unlock()
	switch {
	case !ok:
		return nil
	case p.proto == protoUDP:
		quote := pkt[:min(p.size, 548)] // an error of 576 bytes at most (RFC 1812, 4.3.2.3)
		return unreachable(p.dst, p.src, portUnreachable, quote)
	case p.flags&tcpACK != 0: // RFC 9293, 3.10.7.1
		return p.back(segment(p.dst, p.src, p.dport, p.sport, p.ack, 0, tcpRST))
	}
	return p.back(segment(p.dst, p.src, p.dport, p.sport, 0, p.seq+p.seqLen, tcpRST|tcpACK))
}

// back wraps an answer to p as p was.
func (p *packet) back(answer []byte) []byte {
	if !p.wrapped {
		return answer
	}
	return AppendWrap(make([]byte, 0, wrapLen+len(answer)), answer, p.to.port(0).Addr(), p.from.port(0).Addr())
}
