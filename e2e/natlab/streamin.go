package natlab

import (
	"syscall"
	"time"
)

// hear takes a segment for s. It sends nothing: see stream.
func (s *stream) hear(now time.Time, g *segment) {
	defer s.cond.Broadcast()
	if g.flags&tcpRST != 0 {
		s.hearReset(g)
		return
	}
	switch s.state {
	case synSent:
		if g.flags&(tcpSYN|tcpACK) != tcpSYN|tcpACK || g.ack != s.iss+1 {
			return
		}
		s.rcv, s.ackDue = g.seq+1, true
		s.established(g)
		return
	case synReceived:
		if g.flags&tcpACK == 0 || g.ack != s.iss+1 {
			s.resend = g.flags&tcpSYN != 0 // our answer was lost
			return
		}
		s.established(g)
		if !s.from.offer(s) {
			s.end(syscall.ECONNRESET)
			return
		}
	}
	if g.flags&tcpSYN != 0 { // the other side has not heard our acknowledgement
		s.ackDue = true
		return
	}
	s.hearAck(now, g)
	s.hearData(g)
}

// hearReset believes a reset that could only come from who knows the connection
// (RFC 9293, section 3.10.7).
func (s *stream) hearReset(g *segment) {
	switch {
	case s.state == synSent && g.flags&tcpACK != 0 && g.ack == s.iss+1:
		s.end(syscall.ECONNREFUSED)
	case s.state != synSent && !before(g.seq, s.rcv) && before(g.seq, s.rcv+streamWindow+1):
		s.end(syscall.ECONNRESET)
	}
}

func (s *stream) established(g *segment) {
	s.state = open
	s.una, s.nxt = s.iss+1, s.iss+1
	s.tries, s.rto, s.due, s.resend, s.repairing = 0, streamRTO, time.Time{}, false, false
	s.window = uint32(g.window)
	if g.mss != 0 {
		s.mss = max(int(g.mss), minMSS-60)
	}
}

func (s *stream) hearAck(now time.Time, g *segment) {
	if g.flags&tcpACK == 0 {
		return
	}
	if s.window = uint32(g.window); s.window == 0 {
		s.tries = 0 // somebody is there, and slow
	}
	switch {
	case before(s.una, g.ack) && !before(s.nxt, g.ack):
		n := int(g.ack - s.una)
		if n > len(s.out) {
			s.finAcked = true
		}
		s.out = s.out[min(n, len(s.out)):]
		s.una = g.ack
		s.dup, s.tries, s.due = 0, 0, time.Time{}
		if !s.rttAt.IsZero() && before(s.rttSeq, g.ack) {
			s.measured(now.Sub(s.rttAt))
			s.rttAt = time.Time{}
		}
		s.rto = min(max(2*s.srtt, minRTO), maxRTO)
		if s.srtt == 0 {
			s.rto = streamRTO
		}
		if s.repairing = s.repairing && before(s.una, s.recover); s.repairing {
			s.resend = true // the next hole
		}
		if s.una != s.nxt {
			s.due = now.Add(s.rto)
		}
	case g.ack == s.una && s.una != s.nxt && len(g.payload) == 0 && g.flags&tcpFIN == 0:
		if s.dup++; s.dup == 3 && !s.repairing {
			s.repairing, s.recover, s.resend = true, s.nxt, true
			s.rttAt = time.Time{}
		}
	}
}

func (s *stream) measured(rtt time.Duration) {
	if s.srtt == 0 {
		s.srtt = rtt
	}
	s.srtt += (rtt - s.srtt) / 8
}

func (s *stream) hearData(g *segment) {
	if g.flags&tcpFIN != 0 && !s.fin {
		s.fin, s.finAt = true, g.seq+uint32(len(g.payload))
	}
	if len(g.payload) > 0 || g.flags&tcpFIN != 0 {
		s.ackDue = true
	}
	if s.closing {
		s.in = nil // nobody reads any more: taken and forgotten
	}
	s.take(g.seq, g.payload)
	for again := true; again; { // what came too early may fit now
		again = false
		for seq, b := range s.ahead {
			if !before(s.rcv, seq) {
				delete(s.ahead, seq)
				s.take(seq, b)
				again = true
			}
		}
	}
	if s.fin && s.rcv == s.finAt && !s.eof {
		s.eof = true
		s.rcv++
	}
}

// take adds b, which begins at seq, to what came, or keeps it for later.
func (s *stream) take(seq uint32, b []byte) {
	if len(b) == 0 || s.eof {
		return
	}
	if before(s.rcv, seq) {
		if seq-s.rcv < streamWindow && len(s.ahead) < streamQueue {
			s.ahead[seq] = append([]byte(nil), b...)
		}
		return
	}
	old := int(s.rcv - seq)
	if old >= len(b) {
		return
	}
	b = b[old:]
	b = b[:min(len(b), streamWindow-len(s.in))]
	s.in = append(s.in, b...)
	s.rcv += uint32(len(b))
}
