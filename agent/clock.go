package agent

import (
	"time"

	"enclave/wire"
)

// clock is the time by which what was granted ends. It is the wall clock's, but it does
// not go back with it: who answers this machine's questions about the time (NTP is in
// clear), while control is kept from it, would otherwise bring back what has ended and
// make the map live on. The monotonic clock carries it on meanwhile. Only control's word
// takes it back (docs/decisions/0229). It is pure.
type clock struct {
	at  time.Time     // without a monotonic reading; zero before the first look
	own time.Duration // of the monotonic clock, at that time
}

// look returns the time, given what the two clocks show.
func (c *clock) look(wall time.Time, own time.Duration) time.Time {
	wall = wall.Round(0)
	if steady := c.at.Add(max(own-c.own, 0)); !c.at.IsZero() && steady.After(wall) {
		wall = steady
	}
	c.at, c.own = wall, own
	return wall
}

// believe takes the wall clock's word again: control said that it is right.
func (c *clock) believe(wall time.Time) { c.at = wall.Round(0) }

// wake is the first look. The time is no earlier than it was when this agent last ran.
func (l *looper) wake() time.Time {
	l.clock.at = l.st.Latest.Round(0)
	if l.st.MapAt.After(l.clock.at) { // a state of before the time was remembered
		l.clock.at = l.st.MapAt.Round(0)
	}
	return l.look()
}

// look is the time for everything that ends. What the wall clock shows stays in l.wall.
func (l *looper) look() time.Time {
	l.wall = l.Agent.wall()
	now := l.clock.look(l.wall, time.Since(l.began))
	back := now.Sub(l.wall.Round(0))
	if behind := back > wire.MaxClockSkew; behind != l.behind {
		if l.behind = behind; behind {
			l.log.Warn("this machine's clock was set back: what has ended stays so until control says what time it is", "by", back.Round(time.Second))
		}
	}
	l.st.Latest = now
	return now
}

// heard compares the clocks with control's. While the wall clock is right by control, it
// is believed, wherever it was before. The plane is told each time: it looks at the clock
// for each packet, and may have seen it ahead when the loop did not.
func (l *looper) heard(h *wire.Heartbeat, now time.Time) time.Time {
	l.status.ClockSkew = h.Now.Sub(l.wall).Round(time.Millisecond)
	if l.status.ClockSkew.Abs() > wire.MaxClockSkew {
		return now
	}
	l.clock.believe(l.wall)
	l.plane.set(l.wall)
	l.behind, l.st.Latest = false, l.clock.at
	if l.st.MapAt.After(l.clock.at) {
		l.st.MapAt = l.clock.at
	}
	if l.saved.After(l.clock.at) { // what was written down is from the future
		l.remember(l.clock.at)
	}
	return l.clock.at
}
