package tunnel

import (
	"bytes"
	"encoding/binary"
	"runtime"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// An acknowledgement says all that the one before it said. The stack makes one whenever it
// has gone through what came of a connection, and each would pass WireGuard, the kernel and
// the other stack by itself, which costs as much as a batch of data does. So the reader of a
// queue that holds nothing else lets others run first, and a later one takes the place of
// an earlier one that still waits. Decision 0209.

const (
	// ackYields is how often the reader lets others run. Where nobody has anything to do that
	// takes no time.
	ackYields = 4
	// ackMost is how many acknowledgements wait for others at most.
	ackMost = 16
	// ackLook is how many packets are looked at for one that is to be replaced.
	ackLook = 24
)

// timestamps begin the only options that what is replaced may have (RFC 7323 appendix A).
var timestamps = [...]byte{header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionTS, header.TCPOptionTSLength}

// onlyAcks reports whether p is a TCP segment of the stack that acknowledges and says nothing
// else: no data, no other flag, no SACK block.
func onlyAcks(p *stack.PacketBuffer) bool {
	tcp := p.TransportHeader().Slice()
	switch len(tcp) {
	case header.TCPMinimumSize:
	case header.TCPMinimumSize + len(timestamps) + 8:
		if !bytes.Equal(tcp[header.TCPMinimumSize:][:len(timestamps)], timestamps[:]) {
			return false
		}
	default:
		return false
	}
	ip := p.NetworkHeader().Slice()
	return (len(ip) == header.IPv4MinimumSize || len(ip) == header.IPv6MinimumSize) && isTCP(ip) &&
		header.TCPFlags(tcp[13]) == header.TCPFlagAck && p.Data().Size() == 0
}

// sameEnds reports whether two TCP packets of the stack are of one direction of one connection.
func sameEnds(a, b *stack.PacketBuffer) bool {
	at, bt := a.TransportHeader().Slice(), b.TransportHeader().Slice()
	ai, bi := a.NetworkHeader().Slice(), b.NetworkHeader().Slice()
	if len(at) < 4 || len(bt) < 4 || len(ai) != len(bi) || !bytes.Equal(at[:4], bt[:4]) {
		return false
	}
	switch len(ai) {
	case header.IPv4MinimumSize:
		return bytes.Equal(ai[12:], bi[12:])
	case header.IPv6MinimumSize:
		return bytes.Equal(ai[8:], bi[8:])
	}
	return false
}

// supersedes reports whether p makes old needless, both of one connection and only
// acknowledging. One that acknowledges no more is another message: a window that changed, or
// one of the repetitions by which a sender learns of a loss. So is one with a sequence number
// of its own: a probe of keep-alive, which wants an answer.
func supersedes(p, old *stack.PacketBuffer) bool {
	a, b := p.TransportHeader().Slice(), old.TransportHeader().Slice()
	return len(a) == len(b) && bytes.Equal(a[4:8], b[4:8]) &&
		int32(binary.BigEndian.Uint32(a[8:])-binary.BigEndian.Uint32(b[8:])) > 0
}

// replace puts p, which only acknowledges, in the place of the last packet of its connection,
// if that waits and is made needless by it. The caller holds mu.
func (q *queue) replace(p *stack.PacketBuffer) bool {
	if q.acks == 0 {
		return false
	}
	for i := q.n - 1; i >= max(0, q.n-ackLook); i-- {
		at := &q.ring[(q.head+i)%queuePackets]
		old := *at
		if !sameEnds(p, old) {
			continue
		}
		if !onlyAcks(old) || !supersedes(p, old) {
			return false
		}
		q.bytes += p.Size() - old.Size()
		*at = p.IncRef()
		old.DecRef()
		return true
	}
	return false
}

// gather lets others run while there are only acknowledgements, and few. The caller holds mu.
func (q *queue) gather() {
	for range ackYields {
		if q.n == 0 || q.n != q.acks || q.acks >= ackMost || q.woken || q.closed {
			return
		}
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
}
