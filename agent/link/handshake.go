package link

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"
)

// WireGuard tries a handshake anew every 5 s and no sooner, which suits a path that may
// lose it and not one that has just come into being. So the link keeps the initiation that
// waits for its answer and sends it again: when there is a way at last, when the way
// changes, and a few times after growing pauses. It is the same message: WireGuard drops
// one that it had, by its timestamp. So the other side's link keeps the answer, and gives
// it again when it is asked the same again.

// Types of WireGuard's handshake messages; the first byte.
const (
	initiation    = 1
	response      = 2
	initiationLen = 148
	responseLen   = 92

	// messageOverhead is what a data message adds to an inner packet: header and tag.
	messageOverhead = 32
)

const (
	// glareFor is how long an initiation of ours may be on its way, with its response: a
	// round trip of the slowest relay. Whoever waits longer has lost it. A repeated one
	// counts for less, or those of the other side would hardly ever be let in.
	glareFor  = time.Second
	glareMore = 300 * time.Millisecond

	// repeatFor is when WireGuard makes a new initiation (its REKEY_TIMEOUT).
	repeatFor = 5 * time.Second
)

// twinFor is how long a second copy of a message is not passed on. The device handles
// handshakes on several goroutines, and two copies that come at once can both get past its
// check for replays: each is answered with a session of its own, of which the other side
// takes one and this side keeps the other, and what is sent by it is lost until somebody
// misses it. It is less than the first of repeatAt, so that one that the device had no
// room for is passed on the next time.
const twinFor = 400 * time.Millisecond

// repeatAt is when an unanswered initiation is sent again, after it was first sent.
var repeatAt = [...]time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second}

// handshake is the initiation to one peer that was not answered yet, and the last answer
// that the peer was given.
type handshake struct {
	waits atomic.Bool  // there is one; spares the lock
	until atomic.Int64 // others give way to it, like counter.last; 0: none is on its way
	sent  atomic.Int64 // when it was first sent, like counter.last; 0: not yet

	// mu guards what follows. It is held for a copy of the message.
	mu      sync.Mutex
	msg     [initiationLen]byte
	made    int64 // like counter.last
	repeats int

	answer   [responseLen]byte
	answered int64 // like counter.last; 0: no answer yet

	asked, told passed // the last initiation and the last response that the device was given
}

// passed is a message that was passed on.
type passed struct {
	msg [initiationLen]byte
	at  int64 // like counter.last; 0: there was none
}

// twin reports whether b was passed on just now, and remembers it if not.
func (h *handshake) twin(l *Link, b []byte, last *passed) bool {
	if len(b) > len(last.msg) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := l.sinceBase()
	if last.at != 0 && time.Duration(now-last.at) < twinFor && bytes.Equal(last.msg[:len(b)], b) {
		return true
	}
	copy(last.msg[:], b)
	last.at = now
	return false
}

// keepHandshake looks at what WireGuard sends; handshakes come alone.
func (l *Link) keepHandshake(p *peer, b []byte, sent bool) {
	switch {
	case b[0] == initiation && len(b) == initiationLen:
		p.sessions.sent(b)
		p.shake.keep(l, b, sent)
		l.awaitAnswer(p)
	case b[0] == response && len(b) == responseLen:
		p.sessions.sent(b)
		p.shake.answers(l, b)
	}
}

// answers takes the answer that WireGuard gives to an initiation of the peer. It has only
// one handshake with a peer in its hands, so it has forgotten its own: to send that again
// would have the peer answer it and forget its own in turn.
func (h *handshake) answers(l *Link, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	copy(h.answer[:], b)
	h.answered = l.sinceBase()
	h.waits.Store(false)
	h.until.Store(0)
}

// given returns the answer that the initiation b has had already, by the index that both
// carry; nil: none lately.
func (h *handshake) given(l *Link, b []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(b) != initiationLen || h.answered == 0 || time.Duration(l.sinceBase()-h.answered) >= repeatFor ||
		!bytes.Equal(h.answer[8:12], b[4:8]) {
		return nil
	}
	return bytes.Clone(h.answer[:])
}

// keep takes an initiation that WireGuard has just made.
func (h *handshake) keep(l *Link, b []byte, sent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	copy(h.msg[:], b)
	h.made, h.repeats = l.sinceBase(), 0
	if h.sent.Store(0); sent {
		h.sent.Store(h.made)
		h.until.Store(h.made + int64(glareFor))
	}
	h.waits.Store(true)
}

// next is when the initiation is to be sent again; false: there is none. moved says that
// the way is another one.
func (h *handshake) next(l *Link, now time.Time, moved bool) (time.Time, bool) {
	if !h.waits.Load() {
		return time.Time{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	made := l.base.Add(time.Duration(h.made))
	if now.Sub(made) >= repeatFor {
		h.waits.Store(false)
		return time.Time{}, false
	}
	if moved || h.sent.Load() == 0 {
		return now, true
	}
	if h.repeats == len(repeatAt) {
		return time.Time{}, false
	}
	return made.Add(repeatAt[h.repeats]), true
}

// hear takes a response. Only one to the initiation at hand ends the wait: an answer to an
// earlier one may still be on its way.
func (h *handshake) hear(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(b) == responseLen && bytes.Equal(b[8:12], h.msg[4:8]) {
		h.waits.Store(false)
		h.until.Store(0)
	}
}

// again returns a copy of the initiation for another sending.
func (h *handshake) again(l *Link) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := l.sinceBase()
	for h.repeats < len(repeatAt) && repeatAt[h.repeats] <= time.Duration(at-h.made) {
		h.repeats++
	}
	if h.sent.CompareAndSwap(0, at) {
		h.until.Store(at + int64(glareFor))
	} else {
		h.until.Store(max(h.until.Load(), at+int64(glareMore)))
	}
	return bytes.Clone(h.msg[:])
}

// glare looks at what comes for WireGuard. It reports whether b is not to be passed on: a
// second copy, an initiation that was answered before, or one that crossed one of ours and
// has to give way. WireGuard answers an initiation by forgetting its own, so when two
// cross, each side answers and neither takes the answer. Both try again 5 s after their own
// initiation, which is as far apart as before: two systems that begin to talk within
// one one-way delay of each other would never get to a session. So of two that cross,
// the one of the lower key stands. It is a choice among packets that may be lost
// anyway: whoever forges one gains nothing.
func (l *Link) glare(p *peer, b []byte) bool {
	switch b[0] {
	case response:
		p.shake.hear(b)
		return p.shake.twin(l, b, &p.shake.told)
	case initiation:
		if again := p.shake.given(l, b); again != nil {
			l.sendHandshake(p, again)
			return true
		}
		if l.sinceBase() < p.shake.until.Load() && bytes.Compare(l.cfg.WireGuard[:], p.wg[:]) < 0 {
			return true
		}
		return p.shake.twin(l, b, &p.shake.asked)
	}
	return false
}

// awaitAnswer has p stepped when its initiation is to be sent again.
func (l *Link) awaitAnswer(p *peer) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.gone {
		l.dueLocked(p, now.Add(repeatAt[0]))
	}
}

// sendHandshake sends a message of a handshake again.
func (l *Link) sendHandshake(p *peer, b []byte) {
	switch r := p.route.Load(); {
	case r == nil:
	case r.direct.IsValid():
		_ = l.writeOne(b, r) // one that cannot be sent is one that is lost
	case r.stream != nil:
		r.stream.send(b)
	case r.relay != nil:
		r.relay.send(p, b)
	}
}
