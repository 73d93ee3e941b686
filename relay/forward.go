package relay

import (
	"context"
	"slices"
	"time"

	"enclave/wire/frame"
)

// batch is what a reader owes when nothing whole is left of what one read brought: the
// clock was asked once, the roster once for each receiver, and each writer is woken
// once. So a writer finds many frames where it would find one.
type batch struct {
	now           time.Time // zero: nothing was read yet
	to            frame.ID  // of the frame before
	dst           *client   // whom route named for it; nil: ask
	frames, bytes uint64    // forwarded
	wake          []*client
}

const (
	// patience is how long a sender waits for room in a queue, and its other receivers
	// with it. A receiver that takes nothing for so long has everybody's frames dropped
	// at once until it does, so it costs each sender this once for a whole queue.
	patience = 10 * time.Millisecond

	// maxWake bounds the batch's list; more receivers than that are woken early.
	maxWake = 16
)

// forward hands a payload to the queue of its receiver, or says why not.
func (c *client) forward(ctx context.Context, to frame.ID, payload []byte, now time.Time) {
	b := &c.batch
	if b.dst == nil || b.to != to {
		dst, ev := c.srv.roster.route(c, to, now)
		if dst == nil {
			c.turnBack(to, ev)
			return
		}
		b.to, b.dst = to, dst
	}
	dst := b.dst
	a := dst.queue.packet(c, payload)
	for a == wait {
		c.settle() // who waits keeps nobody else waiting
		if !c.await(ctx) {
			dst.queue.giveUp(c)
			a = full
			break
		}
		a = dst.queue.packet(c, payload)
	}
	if a != admitted {
		c.srv.count(dropQueueFull, 1)
		return
	}
	b.frames++
	b.bytes += uint64(len(payload))
	if n := len(b.wake); n > 0 && b.wake[n-1] == dst || slices.Contains(b.wake, dst) {
		return
	}
	if len(b.wake) == maxWake {
		c.settle()
	}
	b.wake = append(b.wake, dst)
}

// turnBack counts a frame that goes nowhere and tells its sender.
func (c *client) turnBack(to frame.ID, ev event) {
	c.srv.count(ev, 1)
	switch ev {
	case dropPeerGone:
		c.peerGone(to)
	case dropNoTicket:
		c.refuse(to, frame.NoTicket)
	case dropExpired:
		c.refuse(to, frame.Expired)
	}
}

// await waits for room in the queue that has noted c. The timer is made anew: this
// happens once for a whole queue.
func (c *client) await(ctx context.Context) bool {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-c.room:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// settle pays what the batch owes.
func (c *client) settle() {
	b := &c.batch
	for _, dst := range b.wake {
		dst.queue.signal()
	}
	clear(b.wake)
	if b.frames > 0 {
		c.srv.count(forwarded, b.frames)
		c.srv.count(forwardedBytes, b.bytes)
	}
	*b = batch{wake: b.wake[:0]}
}
