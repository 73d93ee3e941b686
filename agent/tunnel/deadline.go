package tunnel

import (
	"sync"
	"time"
)

// deadline is the deadline of those who wait for one thing, and the timer that wakes them
// for it. The lock of the condition that they wait for guards it. The timer is set by who
// waits and not by who sets a deadline: most deadlines are replaced before anybody does.
type deadline struct {
	by    time.Time // zero: no deadline
	alarm *time.Timer
	rings time.Time // when it does; zero: it is not set
}

// over reports whether the deadline has passed.
func (p *deadline) over() bool { return !p.by.IsZero() && !time.Now().Before(p.by) }

// set changes the deadline. A later one need not wake those who wait: their alarm rings
// for nothing, once.
func (p *deadline) set(by time.Time, c *sync.Cond) {
	c.L.Lock()
	defer c.L.Unlock()
	if !by.IsZero() && (p.by.IsZero() || by.Before(p.by)) {
		c.Broadcast()
	}
	p.by = by
}

// wait is c.Wait, with the alarm set.
func (p *deadline) wait(c *sync.Cond) {
	if !p.by.IsZero() && (p.rings.IsZero() || p.by.Before(p.rings)) {
		p.rings = p.by
		if p.alarm == nil {
			p.alarm = time.AfterFunc(time.Until(p.by), func() {
				c.L.Lock()
				defer c.L.Unlock()
				p.rings = time.Time{}
				c.Broadcast()
			})
		} else {
			p.alarm.Reset(time.Until(p.by))
		}
	}
	c.Wait()
}

// stop takes the alarm back, for good.
func (p *deadline) stop() {
	if p.alarm != nil {
		p.alarm.Stop()
		p.rings = time.Time{}
	}
}
