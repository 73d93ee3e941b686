package natlab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// LinkConfig is what one direction of a link does to packets. The zero value is a
// perfect wire: no delay, no loss, 1500 bytes.
type LinkConfig struct {
	Latency time.Duration
	// Jitter adds a uniformly random delay below it. It keeps the order.
	Jitter time.Duration
	// Loss, Duplicate, Reorder and Corrupt are probabilities. A reordered packet is
	// held back by ReorderDelay while others pass it; a corrupt one has one bit
	// flipped, which the receiving host's checksums catch.
	Loss, Duplicate, Reorder, Corrupt float64
	// ReorderDelay defaults to 10 ms.
	ReorderDelay time.Duration
	// Rate is in bits per second; 0 means no limit. Queue is how much waiting a
	// packet endures before it is dropped, 100 ms by default.
	Rate  int64
	Queue time.Duration
	// MTU is in bytes of IP packet; 0 means 1500.
	MTU int
	// Blackhole drops packets above the MTU in silence, as firewalls that eat ICMP
	// do. Otherwise the sender hears "fragmentation needed" or "packet too big".
	Blackhole bool
}

// Validate names everything that is wrong with c.
func (c LinkConfig) Validate() error {
	var errs []error
	for _, p := range []struct {
		name string
		v    float64
	}{{"loss", c.Loss}, {"duplicate", c.Duplicate}, {"reorder", c.Reorder}, {"corrupt", c.Corrupt}} {
		if !(p.v >= 0 && p.v <= 1) {
			errs = append(errs, fmt.Errorf("%s: %v is no probability", p.name, p.v))
		}
	}
	if min(c.Latency, c.Jitter, c.ReorderDelay, c.Queue) < 0 {
		errs = append(errs, errors.New("latency, jitter, reorder delay, queue: negative"))
	}
	if c.Rate < 0 {
		errs = append(errs, errors.New("rate: negative"))
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > MaxPacket) {
		errs = append(errs, fmt.Errorf("mtu: %d is not within 576 to %d", c.MTU, MaxPacket))
	}
	return errors.Join(errs...)
}

func (c LinkConfig) withDefaults() LinkConfig {
	setDefault(&c.MTU, 1500)
	setDefault(&c.Queue, 100*time.Millisecond)
	setDefault(&c.ReorderDelay, 10*time.Millisecond)
	return c
}

type direction uint8

const (
	up   direction = iota // from the node into its network
	down                  // from the network to the node
)

// node is what hangs on a network: a host or the outside of a router.
type node interface {
	receive(now time.Time, p *packet)
	name() string
}

// port is the place where a node hangs on a network, with its link.
type port struct {
	lab       *Lab
	net       *Network // nil once detached
	node      node
	addrs     []netip.Addr
	pipes     [2]pipe
	down      bool
	downUntil time.Time
}

// pipe is one direction of a link.
type pipe struct {
	cfg  LinkConfig
	rng  *rand.Rand
	free time.Time // when the last bit of what was sent so far has left
	last time.Time // when the last packet arrives
}

// fate is what the dice say about one packet.
type fate struct {
	lost, twice, late bool
	flip              int // the bit to flip, or -1
	jitter            time.Duration
}

// roll draws a fate. It always draws the same number of values, so that changing
// one probability leaves all the other decisions as they were.
func (pp *pipe) roll(size int) fate {
	c := &pp.cfg
	f := fate{flip: -1}
	if c.Loss == 0 && c.Duplicate == 0 && c.Reorder == 0 && c.Corrupt == 0 && c.Jitter == 0 {
		return f
	}
	r := pp.rng
	f.lost, f.twice, f.late = r.Float64() < c.Loss, r.Float64() < c.Duplicate, r.Float64() < c.Reorder
	bit, corrupt := r.Float64(), r.Float64() < c.Corrupt
	if corrupt {
		f.flip = int(bit * float64(8*size))
	}
	f.jitter = time.Duration(r.Float64() * float64(c.Jitter))
	return f
}

func (pt *port) mtu(d direction) int { return pt.pipes[d].cfg.MTU }

func (pt *port) isDown(now time.Time) bool {
	return pt.net == nil || pt.down || now.Before(pt.downUntil)
}

// transmit puts p on one direction of pt's link. It takes p over.
func (l *Lab) transmit(now time.Time, pt *port, d direction, p *packet) {
	if pt.isDown(now) {
		l.discard(now, pt.node.name(), p, DropDown)
		return
	}
	pp := &pt.pipes[d]
	if len(p.data) > pp.cfg.MTU {
		l.tooBig(now, pt, d, p)
		return
	}
	f := pp.roll(len(p.data))
	start := now
	if pp.cfg.Rate > 0 {
		if pp.free.Sub(now) > pp.cfg.Queue {
			l.discard(now, pt.node.name(), p, DropQueue)
			return
		}
		start = later(now, pp.free).Add(time.Duration(int64(len(p.data)) * 8 * int64(time.Second) / pp.cfg.Rate))
		pp.free = start
	}
	if f.lost {
		l.discard(now, pt.node.name(), p, DropLoss)
		return
	}
	if f.flip >= 0 {
		p.data[f.flip/8] ^= 1 << (f.flip % 8)
	}
	at := start.Add(pp.cfg.Latency + f.jitter)
	if f.late {
		at = at.Add(pp.cfg.ReorderDelay)
	} else {
		at = later(at, pp.last)
		pp.last = at
	}
	if f.twice {
		twin := l.get(p.data)
		twin.origin = p.origin
		if !l.schedule(at, pt, d, twin) {
			l.discard(now, pt.node.name(), twin, DropQueue)
		}
	}
	if !at.After(now) {
		l.arrive(now, pt, d, p)
	} else if !l.schedule(at, pt, d, p) {
		l.discard(now, pt.node.name(), p, DropQueue)
	}
}

// arrive takes p off the far end of a link.
func (l *Lab) arrive(now time.Time, pt *port, d direction, p *packet) {
	if pt.isDown(now) {
		l.discard(now, pt.node.name(), p, DropDown)
		return
	}
	if d == up {
		pt.net.route(now, p, pt)
		return
	}
	pt.node.receive(now, p)
}

// tooBig drops p in front of a link that is too narrow for it and tells the sender
// (RFC 1191, RFC 8201). A node that sends into its own link is told by its caller.
func (l *Lab) tooBig(now time.Time, pt *port, d direction, p *packet) {
	var v view
	if d == down && !pt.pipes[d].cfg.Blackhole && parse(p.data, &v) {
		pt.net.refuse(now, causeTooBig, pt.mtu(d), p.data, &v)
	}
	l.discard(now, pt.node.name(), p, DropMTU)
}
