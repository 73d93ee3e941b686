package link

import (
	"bytes"
	"time"
)

// Types of WireGuard's handshake messages; the first byte.
const (
	initiation = 1
	response   = 2
)

// glareFor is how long an initiation of ours may be on its way, with its response: a
// round trip of the slowest relay. Whoever waits longer has lost it.
const glareFor = time.Second

// glare reports whether b is an initiation that crossed one of ours and has to give
// way. WireGuard answers an initiation by forgetting its own, so when two cross, each
// side answers and neither takes the answer. Both try again 5 s after their own
// initiation, which is as far apart as before: two systems that begin to talk within
// one one-way delay of each other would never get to a session. So of two that cross,
// the one of the lower key stands. It is a choice among packets that may be lost
// anyway: whoever forges one gains nothing.
func (l *Link) glare(p *peer, b []byte) bool {
	switch b[0] {
	case response:
		p.initiated.Store(0)
	case initiation:
		at := p.initiated.Load()
		return at != 0 && time.Duration(l.sinceBase()-at) < glareFor && bytes.Compare(l.cfg.WireGuard[:], p.wg[:]) < 0
	}
	return false
}
