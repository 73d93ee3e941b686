package natlab

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// The lab's own TCP, for bubbles (Config.Bubble): handshake, cumulative acknowledgement,
// retransmission, flow control, FIN and RST, all in real segments that NATs and
// firewalls see and follow. It has no congestion control, no selective
// acknowledgement and no window scaling: it is to be correct, not fast.
const (
	streamWindow = 65535 // bytes under way, and bytes that wait for a reader
	streamRTO    = time.Second
	minRTO       = 200 * time.Millisecond
	maxRTO       = 60 * time.Second
	streamTries  = 12               // retransmissions of one segment before the connection is given up
	streamLinger = 60 * time.Second // from Close until what is not acknowledged is forgotten
	streamQueue  = 128              // connections that wait for Accept
	minMSS       = 536              // RFC 9293, section 3.7.1
)

type streamState uint8

const (
	synSent streamState = iota
	synReceived
	open
	dead
)

// stream is one connection. Everything in it is guarded by lab.mu. Only its own
// goroutine sends, so that a segment that is answered in the same walk through the
// switch never has one stream within another.
type stream struct {
	host *Host
	flow streamFlow
	cond sync.Cond // L is lab.mu; for all who wait for anything to change
	from *streamListener

	state streamState
	err   error // why it is dead

	iss, una, nxt uint32 // initial, oldest not acknowledged, next to be sent
	out           []byte // from una on: not acknowledged, then not sent
	closing       bool   // Close was called: FIN goes after out
	finAcked      bool
	window        uint32 // what the other side takes
	mss           int    // what the other side takes in one segment
	dup           int
	recover       uint32 // una beyond it ends a repair
	repairing     bool
	resend        bool // the first segment, at once
	tries         int
	rto, srtt     time.Duration
	rttSeq        uint32 // an acknowledgement beyond it measures the round trip
	rttAt         time.Time
	due           time.Time // of the retransmission; zero: nothing is under way
	lingerBy      time.Time
	timer         *time.Timer

	rcv    uint32
	in     []byte
	ahead  map[uint32][]byte
	finAt  uint32
	fin    bool // finAt is known
	eof    bool
	ackDue bool

	readBy, writeBy time.Time
}

// run is the stream's goroutine.
func (s *stream) run() {
	l := s.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	for s.state != dead {
		if !s.work(time.Now()) {
			s.cond.Wait()
		}
	}
}

// work sends one segment, and answers false when there is none to send now.
func (s *stream) work(now time.Time) bool {
	switch {
	case !s.lingerBy.IsZero() && !now.Before(s.lingerBy):
		s.end(net.ErrClosed)
		return true
	case s.closing && s.finAcked && s.eof:
		s.end(net.ErrClosed)
		return true
	case !s.due.IsZero() && !now.Before(s.due):
		if s.tries++; s.tries > streamTries {
			s.end(syscall.ETIMEDOUT)
			return true
		}
		s.rto = min(2*s.rto, maxRTO)
		s.repairing, s.recover, s.resend = true, s.nxt, true
		s.rttAt = time.Time{} // an answer could be to either (Karn)
		s.due = now.Add(s.rto)
	}
	sent := s.pick(now)
	s.arm(now)
	return sent
}

// pick sends the segment whose turn it is.
func (s *stream) pick(now time.Time) bool {
	if s.state != open {
		if s.nxt != s.iss && !s.resend {
			return false
		}
		s.resend, s.nxt = false, s.iss+1
		g := segment{seq: s.iss, flags: tcpSYN, mss: uint16(s.room())}
		if s.state == synReceived {
			g.flags, g.ack = tcpSYN|tcpACK, s.rcv
		}
		s.emit(now, &g)
		return true
	}
	under := int(s.nxt - s.una) // FIN included
	if s.resend && under > 0 {
		s.resend = false
		s.push(now, s.una, 0)
		return true
	}
	s.resend = false
	left := len(s.out) - under
	limit := min(int(s.window), streamWindow) - under
	if under == 0 && limit <= 0 && left > 0 && s.window == 0 {
		if s.due.IsZero() {
			s.due = now.Add(s.rto)
			return false
		}
		limit = 1 // the first of them probes the window
	}
	switch {
	case left > 0 && limit > 0:
		n := s.push(now, s.nxt, limit)
		s.nxt += uint32(n)
		return true
	case left == 0 && s.closing && !s.finAcked:
		s.push(now, s.nxt, 0)
		s.nxt++
		return true
	case s.ackDue:
		s.emit(now, &segment{seq: s.nxt, flags: tcpACK})
		return true
	}
	return false
}

// push sends what begins at seq, at most limit bytes when that is not 0, or the FIN.
func (s *stream) push(now time.Time, seq uint32, limit int) int {
	at := int(seq - s.una)
	b := s.out[min(at, len(s.out)):]
	if limit > 0 {
		b = b[:min(len(b), limit)]
	}
	b = b[:min(len(b), s.room(), s.mss)]
	g := segment{seq: seq, flags: tcpACK, payload: b}
	switch {
	case len(b) > 0:
		g.flags |= tcpPSH
	case s.closing:
		g.flags |= tcpFIN
	}
	if s.rttAt.IsZero() && !s.repairing {
		s.rttAt, s.rttSeq = now, seq
	}
	if s.due.IsZero() {
		s.due = now.Add(s.rto)
	}
	s.emit(now, &g)
	return len(b)
}

// room is the payload that fits a segment, by what is known of the path.
func (s *stream) room() int {
	head := 40
	if s.flow.local.Addr().Is6() {
		head = 60
	}
	return max(s.host.pathMTU(s.flow.remote.Addr())-head, minMSS-60)
}

func (s *stream) emit(now time.Time, g *segment) {
	if s.state == open {
		g.ack, s.ackDue = s.rcv, false
	}
	g.window = uint16(max(0, streamWindow-len(s.in)))
	if s.state != open && s.due.IsZero() {
		s.due = now.Add(s.rto)
	}
	if !s.host.owns(s.flow.local.Addr()) {
		return // the host has moved: nothing leaves from an address that it lost
	}
	p := s.host.lab.get(nil)
	p.data = appendSegment(p.data, s.flow.local, s.flow.remote, g)
	s.host.emit(now, p)
}

// arm sets the timer to what is next.
func (s *stream) arm(now time.Time) {
	if s.state == dead {
		return
	}
	at := s.due
	if !s.lingerBy.IsZero() && (at.IsZero() || s.lingerBy.Before(at)) {
		at = s.lingerBy
	}
	switch {
	case at.IsZero():
		s.timer.Stop()
	default:
		s.timer.Reset(at.Sub(now))
	}
}

// wake is what timers call.
func (s *stream) wake() {
	s.host.lab.mu.Lock()
	defer s.host.lab.mu.Unlock()
	s.cond.Broadcast()
}

// end makes the stream dead. Its goroutine and all who wait notice.
func (s *stream) end(err error) {
	if s.state == dead {
		return
	}
	s.state, s.err = dead, err
	s.timer.Stop()
	if s.host.streams.conns[s.flow] == s {
		delete(s.host.streams.conns, s.flow)
	}
	s.cond.Broadcast()
}
