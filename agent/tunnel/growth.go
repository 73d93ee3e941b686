package tunnel

import (
	"math"
	"sync"
	"time"
)

const (
	// busyAfter is what a connection has carried, in bytes, before its window is looked at.
	busyAfter = 1 << 20
	// busyStep is how often it is looked at from then on, in bytes.
	busyStep = 128 << 10

	// nearBy is the round trip from which on two systems are far from each other. Nearer
	// ones need little under way, and whatever is more waits in the kernel's buffer of the
	// receiver, until that overflows.
	nearBy = 10 * time.Millisecond
	// nearSum is what the receive buffers of all busy connections to near systems may be
	// together, in bytes, where nobody knows what the kernel holds, and nearLeast what each
	// may be at least. Half of a buffer is announced as a window: 3 MiB under way, of one
	// connection, are 2.5 Gbit/s over 10 ms, and more where the way is shorter.
	nearSum   = 8 << 20
	nearLeast = 256 << 10
	// Where somebody knows, their sum is three quarters of it, but not more than nearSum and
	// not less than nearFew: less than half of it may then be under way, for the kernel needs
	// as much again for itself. fewLeast is nearLeast where that is little.
	nearFew  = 1 << 20
	fewLeast = 128 << 10
	// sendSum and sendLeast are the same for what programs have written and the receiver has
	// not acknowledged. A program is woken when half of a buffer is empty, so it has to
	// hold twice what may be under way, and some more so that nobody waits for a program.
	sendSum   = 12 << 20
	sendLeast = 512 << 10
	// nearIdle is after how long without data one counts no more.
	nearIdle = time.Second

	// farMost is how many connections to far systems may have their windows grown at the
	// same time. What is in a window may have to be held: sixteen of the largest are 96
	// MiB, and twice that until the collector runs.
	farMost = 3
	// farIdle is after how long without data one gives its place to another.
	farIdle = 5 * time.Second
)

// growth decides how large the buffers of busy connections are: decisions 0207, 0208 and
// 0216.
type growth struct {
	mu     sync.Mutex // guards what follows
	kernel int        // what the kernel holds of what comes, in bytes; 0: not known
	in     crowd      // who receives much
	to     crowd      // who sends much to near systems
}

// hold is told what the kernel's buffer may hold.
func (g *growth) hold(kernel int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kernel = kernel
}

// near is what all near ones share, and what each has at least. The caller holds mu.
func (g *growth) near() (sum, least int) {
	if g.kernel <= 0 {
		return nearSum, nearLeast
	}
	sum = min(max(g.kernel/4*3, nearFew), nearSum)
	return sum, min(max(sum/32, fewLeast), nearLeast)
}

// busy is a connection that carries much in one direction.
type busy struct {
	by   *tcpIO
	near bool
	last time.Time
}

type crowd []busy

// meet notes that t has just moved data, and forgets who has been silent. It returns how
// many there are of its kind, t included if it is known. A new one takes a place unless as
// many as most of its kind have one.
func (c *crowd) meet(t *tcpIO, near bool, most int, now time.Time) (same int, known bool) {
	kept := (*c)[:0]
	for _, b := range *c {
		if b.by == t {
			b.last, known = now, true
		} else if idle := now.Sub(b.last); b.near && idle > nearIdle || !b.near && idle > farIdle {
			continue
		}
		if b.near == near {
			same++
		}
		kept = append(kept, b)
	}
	clear((*c)[len(kept):])
	if !known && same < most {
		kept = append(kept, busy{t, near, now})
		same, known = same+1, true
	}
	*c = kept
	return same, known
}

func (c *crowd) release(t *tcpIO) {
	for i, b := range *c {
		if b.by == t {
			last := len(*c) - 1
			(*c)[i], (*c)[last] = (*c)[last], busy{}
			*c = (*c)[:last]
			return
		}
	}
}

// room says how large the receive buffer of t, which has just got data, is to be; 0: as it
// is. A far one that has a place may grow as its transfer needs it.
func (g *growth) room(t *tcpIO, near bool, now time.Time) (size int, grow bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !near {
		_, grow = g.in.meet(t, false, farMost, now)
		return 0, grow
	}
	same, _ := g.in.meet(t, true, math.MaxInt, now)
	sum, least := g.near()
	return min(max(sum/same, least), maxWindow), false
}

// store says how large the send buffer of t, which has just sent data to a near system, is
// to be.
func (g *growth) store(t *tcpIO, now time.Time) (size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	same, _ := g.to.meet(t, true, math.MaxInt, now)
	return min(max(sendSum/same, sendLeast), maxWindow)
}

// release forgets t.
func (g *growth) release(t *tcpIO) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.in.release(t)
	g.to.release(t)
}
