package link

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"enclave/wire/frame"
)

// writeFrames sends what is queued and finds out whether the relay is still there.
func (rc *relayConn) writeFrames(c net.Conn, done <-chan struct{}) error {
	tick := time.NewTimer(idleTick)
	defer tick.Stop()
	var pinged int64  // when the ping that waits was sent; 0: none waits
	var before uint64 // frames that had come by then
	suspect := false
	buf := make([]byte, 0, flushBytes+packetCap)
	for {
		var pkt *packet
		check := false
		select {
		case <-done:
			return nil
		case pkt = <-rc.out:
		case <-rc.urgent:
		case <-rc.again:
			if rc.l.lost(c.LocalAddr()) {
				return errAddressGone
			}
			check = true
		case <-tick.C:
			if pinged != 0 || rc.silence() < busyFor {
				tick.Reset(busyTick)
			} else {
				tick.Reset(idleTick)
			}
		}
		buf = buf[:0]
		rc.ctlMu.Lock()
		buf, rc.ctl = append(buf, rc.ctl...), rc.ctl[:0]
		rc.ctlMu.Unlock()
		if pkt != nil {
			rc.patient.taken()
			rc.sent.Store(rc.l.sinceBase())
		}
		for ; pkt != nil; pkt = rc.nextPacket(buf) {
			buf = append(buf, pkt.b...)
			pkt.free()
		}
		now := rc.l.sinceBase()
		quiet, busy := time.Duration(now-rc.heard.Load()), rc.silence() < busyFor
		switch waits := time.Duration(now - pinged); {
		case pinged != 0 && rc.frames.Load() != before:
			if pinged = 0; suspect {
				suspect = rc.suspected(false)
			}
		case pinged != 0 && waits > answerWithin:
			return errRelaySilent
		case pinged != 0 && waits > suspectAfter+2*time.Duration(rc.lag.Load()) && !suspect:
			suspect = rc.suspected(true)
		case pinged == 0 && (check || quiet > askIdle || busy && quiet > askBusy):
			pinged, before = now, rc.frames.Load()
			buf = frame.AppendPing(buf, [8]byte(binary.BigEndian.AppendUint64(nil, uint64(now))))
		}
		if len(buf) == 0 {
			continue
		}
		_ = c.SetWriteDeadline(time.Now().Add(writeIn))
		if _, err := c.Write(buf); err != nil {
			return err
		}
		if cap(buf) > 4*flushBytes {
			buf = make([]byte, 0, flushBytes+packetCap)
		}
	}
}

// suspected records that an answer is overdue, or came after all: then another relay is
// made ready before this one is given up.
func (rc *relayConn) suspected(yes bool) bool {
	l := rc.l
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	rc.suspect = yes
	l.relays.chooseLocked(l, now)
	l.allDueLocked(now)
	return yes
}

// nextPacket returns another packet for the same flush, nil when it is full or none
// waits.
func (rc *relayConn) nextPacket(buf []byte) *packet {
	if len(buf) >= flushBytes {
		return nil
	}
	select {
	case pkt := <-rc.out:
		return pkt
	default:
		return nil
	}
}

func (rc *relayConn) readFrames(r *frame.Reader) error {
	marked := false // this read's data is recorded
	for {
		fresh := !r.Ready()
		t, body, err := r.Next()
		if err != nil {
			return err
		}
		if fresh { // the clock is asked once for all that one read brought
			rc.heard.Store(rc.l.sinceBase())
			marked = false
		}
		rc.frames.Add(1)
		if t == frame.Recv {
			if !marked {
				rc.got.Store(rc.heard.Load())
				marked = true
			}
			from, payload, err := frame.ParsePacket(body)
			if err != nil {
				return err
			}
			rc.l.hearRelayed(rc, from, payload)
			continue
		}
		if err := rc.hear(t, body); err != nil {
			return err
		}
	}
}

// hear takes the frames that are about the connection and not through it.
func (rc *relayConn) hear(t frame.Type, body []byte) error {
	switch t {
	case frame.Ping:
		data, err := frame.ParsePing(body)
		if err != nil {
			return err
		}
		rc.ctlMu.Lock()
		room := len(rc.ctl) < ctlMax
		rc.ctlMu.Unlock()
		if room {
			rc.say(frame.AppendPong(nil, data))
		}
	case frame.Pong:
	case frame.Opened:
		id, here, err := frame.ParseOpened(body)
		if err != nil {
			return err
		}
		rc.hearPresence(id, here)
	case frame.PeerGone:
		id, err := frame.ParsePeer(body)
		if err != nil {
			return err
		}
		rc.hearPresence(id, false)
	case frame.Refused:
		id, code, err := frame.ParseRefused(body)
		if err != nil {
			return err
		}
		rc.hearRefused(id, code)
	case frame.Drain:
		grace, err := frame.ParseDrain(body)
		if err != nil {
			return err
		}
		rc.hearDrain(grace)
	case frame.Note:
		rc.l.log.Info("relay says", "relay", rc.id, "note", string(body))
	default:
		return fmt.Errorf("relay sent %v", t)
	}
	return nil
}

func (rc *relayConn) hearPresence(id frame.ID, here bool) {
	p := rc.l.table.byID(id)
	if p == nil {
		return
	}
	now := time.Now()
	l := rc.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if here {
		p.setHere(rc.id, now)
	} else {
		p.setAway(rc.id, now)
	}
	if !p.gone {
		l.dueLocked(p, now)
	}
}

func (rc *relayConn) hearRefused(id frame.ID, code frame.Code) {
	p := rc.l.table.byID(id)
	if p == nil {
		return
	}
	now := time.Now()
	l := rc.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if code == frame.NoTicket {
		delete(rc.opened, p.id) // presented again by the next step
	} else {
		l.log.Warn("relay refuses the pair", "relay", rc.id, "peer", p.id, "why", code)
		p.setAway(rc.id, now)
	}
	if !p.gone {
		l.dueLocked(p, now)
	}
}

func (rc *relayConn) hearDrain(grace time.Duration) {
	l := rc.l
	l.log.Info("relay drains", "relay", rc.id, "grace", grace)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	rc.drains, rc.drained = now, now.Add(grace+drainHold)
	l.relays.chooseLocked(l, now)
	l.allDueLocked(now) // pairs look for each other elsewhere while this one still carries them
	l.wake()
}

// drainHold is how long after its end a drained relay is no choice for a home.
const drainHold = time.Minute
