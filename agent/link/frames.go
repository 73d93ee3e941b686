package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"time"

	"enclave/passage"
	"enclave/wire/frame"
)

// writeFrames sends what is queued and finds out whether the relay is still there.
func (rc *relayConn) writeFrames(c net.Conn, done <-chan struct{}) error {
	tick := time.NewTimer(idleTick)
	defer tick.Stop()
	var pinged int64  // when the ping that waits was sent; 0: none waits
	var before uint64 // frames that had come by then
	suspect := false
	bulk := passage.BulkOf(c)
	var buf []byte
	for {
		check := false
		select {
		case <-done:
			return nil
		case <-rc.out.ready:
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
		if len(rc.ctl) > 0 {
			buf, rc.ctl = append(buf, rc.ctl...), rc.ctl[:0]
			rc.taken++
		}
		rc.ctlMu.Unlock()
		data := rc.out.take()
		now := rc.l.sinceBase()
		if data != nil {
			rc.sent.Store(now)
		}
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
		err := flush(c, bulk, buf)
		if data != nil {
			if err == nil {
				err = flush(c, bulk, data.b)
			}
			data.free()
		}
		if err != nil {
			return err
		}
		if cap(buf) > maxKept {
			buf = nil
		}
	}
}

// maxKept is how much room for frames about the connection is kept.
const maxKept = 4 << 10

// flush writes b, flushBytes at once.
func flush(c net.Conn, bulk *passage.Bulk, b []byte) error {
	for len(b) > 0 {
		some := b[:min(len(b), flushBytes)]
		b = b[len(some):]
		_ = c.SetWriteDeadline(time.Now().Add(writeIn))
		bulk.Hold()
		if _, err := c.Write(some); err != nil {
			return err
		}
		if err := bulk.Flush(); err != nil {
			return err
		}
	}
	return nil
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

// incoming is what the reader of a relay owes when all that one read brought is handled:
// the clock is asked once for it, a peer is counted for once, and the device is woken once.
type incoming struct {
	began       bool // something of this read was handled
	data        bool // data among it
	p           *peer
	count, size int // of p's data
}

// settle pays it.
func (in *incoming) settle(l *Link) {
	if in.count > 0 {
		l.receivedSome(in.p, in.count, in.size)
		l.inbox.wake()
	}
	*in = incoming{}
}

func (rc *relayConn) readFrames(r *frame.Reader, bulk *passage.Bulk) error {
	var in incoming
	settle := func() { in.settle(rc.l) }
	defer settle()
	if bulk != nil {
		bulk.BeforeRead = settle
	}
	for {
		if bulk == nil && !r.Ready() {
			settle()
		}
		t, body, err := r.Next()
		if err != nil {
			return err
		}
		if !in.began {
			in.began = true
			rc.heard.Store(rc.l.sinceBase())
		}
		rc.frames.Add(1)
		if t == frame.Recv {
			if !in.data {
				in.data = true
				rc.got.Store(rc.heard.Load())
			}
			from, payload, err := frame.ParsePacket(body)
			if err != nil {
				return err
			}
			rc.l.hearRelayed(rc, &in, from, payload)
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
		rc.tell(slog.LevelInfo, "relay says", "note", string(body))
	default:
		return fmt.Errorf("relay sent %v", t)
	}
	return nil
}

// tell logs what the relay did. All that it may cause shares one limit; the next line
// says how many more there would have been.
func (rc *relayConn) tell(level slog.Level, what string, args ...any) {
	if !rc.words.Allow() {
		rc.unsaid++
		return
	}
	args = append([]any{"relay", rc.id}, args...)
	if rc.unsaid > 0 {
		args = append(args, "more", rc.unsaid)
	}
	rc.unsaid = 0
	rc.l.log.Log(context.Background(), level, what, args...)
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
		p.arrived = p.setHere(rc.id, now) && p.relayed(rc) || p.arrived
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
	if o, ok := rc.opened[p.id]; code == frame.NoTicket && ok && rc.unread(o.after) {
		return // it has not read the one that it misses
	} else if code == frame.NoTicket {
		delete(rc.opened, p.id) // presented again by the next step
	} else {
		rc.tell(slog.LevelWarn, "relay refuses the pair", "peer", p.id, "why", code)
	}
	if code != frame.NoTicket {
		p.setAway(rc.id, now)
	}
	if !p.gone {
		l.dueLocked(p, now)
	}
}

func (rc *relayConn) hearDrain(grace time.Duration) {
	l := rc.l
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(rc.drains) < drainAgain {
		return
	}
	rc.tell(slog.LevelInfo, "relay drains", "grace", grace)
	rc.drains, rc.drained = now, now.Add(grace+drainHold)
	l.relays.chooseLocked(l, now)
	l.allDueLocked(now) // pairs look for each other elsewhere while this one still carries them
	l.wake()
}

// drainAgain is how soon it may say so again: all pairs are looked at each time.
const drainAgain = time.Second

// drainHold is how long after its end a drained relay is no choice for a home.
const drainHold = time.Minute
