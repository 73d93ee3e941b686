package natlab

import (
	"bytes"
	"sync/atomic"
	"time"
)

// Way says whether a node sent a packet or got it.
type Way uint8

const (
	Outbound Way = iota
	Inbound
)

// Sight is one packet as seen at one node: hosts see all that they send and get,
// routers what passes their outside, in its outside form. Dropped packets are seen
// where they ended.
type Sight struct {
	At     time.Time
	Node   string
	Way    Way
	Drop   Drop   // Passed, or why it ended here
	Packet []byte // valid only during the call
}

type tap struct{ see func(Sight) }

// Tap shows every packet to see until stop is called. see runs inside the switch:
// it must be quick and must not call the lab.
func (l *Lab) Tap(see func(Sight)) (stop func()) {
	t := &tap{see}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taps = append(l.taps, t)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		kept := make([]*tap, 0, len(l.taps))
		for _, o := range l.taps {
			if o != t {
				kept = append(kept, o)
			}
		}
		l.taps = kept
	}
}

// Capture is Tap for those who want no more than the time and the bytes.
func (l *Lab) Capture(see func(time.Time, []byte)) (stop func()) {
	return l.Tap(func(s Sight) { see(s.At, s.Packet) })
}

func (l *Lab) show(now time.Time, node string, data []byte, w Way, d Drop) {
	for _, t := range l.taps {
		t.see(Sight{now, node, w, d, data})
	}
}

// Canary counts the packets that carry a secret in clear.
type Canary struct{ seen atomic.Uint64 }

// Seen answers in how many sights (see Sight) the secret appeared.
func (c *Canary) Seen() uint64 { return c.seen.Load() }

// Canary watches for secret in every packet from now on. TCP may cut a secret in
// two; keep it short and send it more than once.
func (l *Lab) Canary(secret []byte) *Canary {
	c := &Canary{}
	secret = bytes.Clone(secret)
	l.Tap(func(s Sight) {
		if bytes.Contains(s.Packet, secret) {
			c.seen.Add(1)
		}
	})
	return c
}

// Traffic counts what one host got from another, whatever NATs lay between.
type Traffic struct{ Packets, Bytes uint64 }

func (l *Lab) count(from, to *Host, n int) {
	if from == nil {
		return // a router made it
	}
	t := l.traffic[pair{from, to}]
	if t == nil {
		t = &Traffic{}
		l.traffic[pair{from, to}] = t
	}
	t.Packets++
	t.Bytes += uint64(n)
}

// Traffic answers what reached to from from since the lab began.
func (l *Lab) Traffic(from, to *Host) Traffic {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.traffic[pair{from, to}]; t != nil {
		return *t
	}
	return Traffic{}
}

// EachTraffic calls f for each pair of hosts that exchanged anything.
func (l *Lab) EachTraffic(f func(from, to string, t Traffic)) {
	l.mu.Lock()
	all := make(map[pair]Traffic, len(l.traffic))
	for k, t := range l.traffic {
		all[k] = *t
	}
	l.mu.Unlock()
	for k, t := range all {
		f(k.from.label, k.to.label, t)
	}
}

// Drops answers how many packets were thrown away, by reason.
func (l *Lab) Drops() map[Drop]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[Drop]uint64{}
	for d, n := range l.dropped {
		if n > 0 {
			m[Drop(d)] = n
		}
	}
	return m
}
