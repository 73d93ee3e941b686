package tunnel

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// resetFor is how long a connection that is being reset keeps its place in the table.
// Only the stack's own answer to a probe is waited for, which takes no round trip.
const resetFor = 5 * time.Second

// The numbers of the two probes. A segment with data outside the window is always
// answered by an acknowledgement (RFC 9293 section 3.10.7.4); of two that are half the
// space apart at least one is outside any window. Should the connection be gone, the
// answer is a reset that starts at probeAck, which tells it from a true one.
const (
	probeSeq = uint32(0)
	probeFar = probeSeq + 1<<31
	probeAck = 0x7e5e7e5e
)

// resets ends connections of a stack that hides its endpoints. Nobody outside knows
// which numbers the two ends would believe, so the stack is asked: a probe makes it
// send a segment of the connection, and that segment, or any other that it sends from
// then on, is turned into two resets. One goes on in its place, to the far end, with
// the segment's own number. The other goes back up, with the number that the segment
// acknowledges; since nothing inbound passes meanwhile, it is the one expected.
type resets struct {
	// waiting spares every packet the lock while flows is empty, which is nearly always.
	waiting atomic.Bool
	mu      sync.Mutex // guards flows
	flows   map[tcpFlow]*reset
}

// reset is a connection on its way out.
type reset struct {
	told   chan struct{} // closed when nothing is left to tell the far end
	once   sync.Once
	expiry *time.Timer
}

func (r *reset) tell() { r.once.Do(func() { close(r.told) }) }

// begin takes f into the table and returns the probes to hand to the stack.
func (rs *resets) begin(f tcpFlow) (r *reset, probes [][]byte) {
	r = &reset{told: make(chan struct{})}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.flows == nil {
		rs.flows = make(map[tcpFlow]*reset)
	}
	rs.remove(f)
	rs.flows[f] = r
	rs.waiting.Store(true)
	r.expiry = time.AfterFunc(resetFor, func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		if rs.flows[f] == r {
			rs.remove(f)
		}
	})
	for _, seq := range []uint32{probeSeq, probeFar} {
		probes = append(probes, appendTCP(nil, f.reverse(), seq, probeAck, header.TCPFlagAck, []byte{0}))
	}
	return r, probes
}

// remove takes f out of the table. The caller holds mu.
func (rs *resets) remove(f tcpFlow) {
	if r := rs.flows[f]; r != nil {
		r.expiry.Stop()
		delete(rs.flows, f)
	}
	rs.waiting.Store(len(rs.flows) > 0)
}

// clear empties the table.
func (rs *resets) clear() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for f := range rs.flows {
		rs.remove(f)
	}
}

// out sees a packet that the stack sends. It returns how long the packet in buf is
// now, 0 for one that must not leave, and what to hand back up to the stack, if anything.
func (rs *resets) out(buf []byte, size int) (newSize int, up []byte) {
	if !rs.waiting.Load() {
		return size, nil
	}
	f, tcp, ok := parseTCP(buf[:size])
	if !ok {
		return size, nil
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.flows[f]
	switch flags := tcp.Flags(); {
	case r == nil:
		return size, nil
	case flags.Contains(header.TCPFlagSyn): // a new connection with the same numbers
		rs.remove(f)
		return size, nil
	case flags.Contains(header.TCPFlagRst) && tcp.SequenceNumber() == probeAck:
		r.tell() // both ends had given up before
		return 0, nil
	case flags.Contains(header.TCPFlagRst): // the stack gave up by itself
		r.tell()
		return size, nil
	}
	seq, ack := tcp.SequenceNumber(), tcp.AckNumber()
	up = appendTCP(nil, f.reverse(), ack, seq, header.TCPFlagRst|header.TCPFlagAck, nil)
	r.tell()
	return len(appendTCP(buf[:0], f, seq, ack, header.TCPFlagRst|header.TCPFlagAck, nil)), up
}

// in sees a packet on its way to the stack and says whether it may pass. What would
// move the numbers of a connection that is being reset may not.
func (rs *resets) in(pkt []byte) bool {
	if !rs.waiting.Load() {
		return true
	}
	f, tcp, ok := parseTCP(pkt)
	if !ok {
		return true
	}
	f = f.reverse()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.flows[f] == nil {
		return true
	}
	if fl := tcp.Flags(); fl.Contains(header.TCPFlagSyn) && !fl.Contains(header.TCPFlagAck) {
		rs.remove(f)
		return true
	}
	return false
}
