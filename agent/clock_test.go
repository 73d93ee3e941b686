package agent

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// TestClock: the time follows the wall clock forward, never back, and goes on by the
// monotonic one until it is told.
func TestClock(t *testing.T) {
	at := func(hour, minute int) time.Time { return time.Date(2026, 3, 1, hour, minute, 0, 0, time.UTC) }
	c := new(clock)
	for i, s := range []struct {
		wall time.Time
		own  time.Duration
		want time.Time
	}{
		{at(9, 0), 0, at(9, 0)},
		{at(9, 1), time.Minute, at(9, 1)},
		{at(8, 2), 2 * time.Minute, at(9, 2)},                                 // an hour back
		{at(8, 12), 12 * time.Minute, at(9, 12)},                              // it does not stand still
		{at(8, 12), 2 * time.Minute, at(9, 12)},                               // nor follow that one back
		{at(13, 0), 13 * time.Minute, at(13, 0)},                              // asleep, or set forward
		{at(9, 0).AddDate(-56, 0, 0), time.Hour, at(13, 47)},                  // no battery
		{at(9, 0).AddDate(300, 0, 0), time.Hour, at(9, 0).AddDate(300, 0, 0)}, // no reason
	} {
		if got := c.look(s.wall, s.own); !got.Equal(s.want) {
			t.Errorf("%d: %s and %s show %s, want %s", i, s.wall, s.own, got, s.want)
		}
	}
	c.believe(at(10, 0))
	if got := c.look(at(10, 0), time.Hour); !got.Equal(at(10, 0)) {
		t.Errorf("%s after control's word", got)
	}
}

// offset is a wall clock that somebody sets while it is read.
type offset struct{ by atomic.Int64 }

func (o *offset) set(d time.Duration) { o.by.Store(int64(d)) }
func (o *offset) now() time.Time      { return time.Now().Add(time.Duration(o.by.Load())) }

// TestClockSetBackMeanwhile: with control away, who sets the clock back brings back
// nothing that has ended, neither at once nor by a restart; the life of the map ends in
// its time. Control's word makes the clock count again.
func TestClockSetBackMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		ends := span{until: time.Now().Add(time.Hour)}
		m := mapOf(3, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), ends), b.org.peer("ccccc", 3, time.Now(), always))
		b.onStream(steadyStream(m, 5*time.Hour))
		b.start(t)
		after(time.Minute)
		b.wantPeers(t, "bbbbb ccccc")
		b.script.cut(true)
		after(2 * time.Hour)
		b.wantPeers(t, "ccccc")
		b.stop(t)
		var off offset
		off.set(-2 * time.Minute) // so little is not noticed
		b.Agent.wall = off.now
		b.start(t)
		after(time.Minute)
		b.wantPeers(t, "ccccc")
		off.set(-100 * time.Minute)
		after(time.Minute)
		b.wantPeers(t, "ccccc")
		if !strings.Contains(b.log.String(), "what has ended stays so") {
			t.Errorf("the log says\n%s", b.log)
		}
		after(5 * time.Hour)
		b.wantState(t, api.AgentClosed)
		b.wantPeers(t, "")
		b.stop(t)
		b.Agent.wall = off.now
		b.start(t)
		after(time.Minute)
		b.wantPeers(t, "") // its map is not even read
		b.script.cut(false)
		off.set(0)
		after(backoffMost + 2*wire.HeartbeatEvery)
		b.wantState(t, api.AgentRunning)
	})
}

// TestClockSetForward: a clock that was years ahead for a moment closes everything, and
// costs no more than the way back to control.
func TestClockSetForward(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		hours := span{until: time.Now().Add(5 * time.Hour)}
		b.onStream(steadyStream(mapOf(3, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), hours)), time.Hour))
		var off offset
		b.Agent.wall = off.now
		b.start(t)
		after(time.Minute)
		b.wantPeers(t, "bbbbb")
		off.set(10 * 365 * 24 * time.Hour)
		after(time.Minute)
		b.wantPeers(t, "")
		off.set(0)
		after(2 * wire.HeartbeatEvery)
		b.wantPeers(t, "bbbbb")
		b.wantState(t, api.AgentRunning)
		if !b.plane.passes("bbbbb", time.Now()) {
			t.Error("the filter stays ahead")
		}
	})
}

// TestClockSetBackALittle: while the time is ahead of the wall clock, the loop still sleeps.
func TestClockSetBackALittle(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.onStream(steadyStream(mapOf(3, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), always)), time.Hour))
		b.Agent.wall = func() time.Time { return time.Now().Add(wire.MaxClockSkew - time.Second) }
		b.start(t)
		after(time.Minute)
		b.script.cut(true)
		b.stop(t)
		b.start(t)
		looked := b.plane.looked()
		after(2 * time.Minute)
		b.wantPeers(t, "bbbbb")
		if n := b.plane.looked() - looked; n > 120 {
			t.Errorf("the loop went round %d times in two minutes", n)
		}
	})
}

// TestClockSetForwardBetweenLooks: a packet saw the clock ahead and the loop did not.
func TestClockSetForwardBetweenLooks(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		hours := span{until: time.Now().Add(5 * time.Hour)}
		b.onStream(steadyStream(mapOf(3, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), hours)), time.Hour))
		b.start(t)
		after(time.Minute)
		if b.plane.passes("bbbbb", time.Now().Add(6*time.Hour)) || b.plane.passes("bbbbb", time.Now()) {
			t.Error("the filter follows the clock back by itself")
		}
		after(2 * wire.HeartbeatEvery)
		if !b.plane.passes("bbbbb", time.Now()) {
			t.Error("the filter stays ahead")
		}
	})
}

// TestClockSetForwardBeforeTheFirstMap: the plane that is made then goes by the time that
// the loop goes by.
func TestClockSetForwardBeforeTheFirstMap(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		m := mapOf(3, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), span{from: time.Now().Add(2 * time.Hour)}))
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			time.Sleep(30 * time.Second)
			say(wire.Message{Map: &m})
			<-gone
		})
		var off offset
		b.Agent.wall = off.now
		b.start(t)
		after(time.Second)
		off.set(3 * time.Hour)
		after(15 * time.Second)
		off.set(0)
		after(15 * time.Second)
		b.wantPeers(t, "bbbbb")
		if !b.plane.passes("bbbbb", time.Now()) {
			t.Error("the filter is behind the loop")
		}
	})
}

// TestClockWasAheadWhenSaved: what was written down while the clock ran ahead does not
// stay from the future, nor is the state unsaved for as long as it was ahead.
func TestClockWasAheadWhenSaved(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.onStream(steadyStream(mapOf(3, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), always)), 24*time.Hour))
		var off offset
		off.set(12 * time.Hour)
		b.Agent.wall = off.now
		b.start(t)
		after(time.Minute)
		off.set(0)
		after(2 * wire.HeartbeatEvery)
		if s := b.stored(t); s.Latest.After(time.Now()) || s.MapAt.After(time.Now()) {
			t.Errorf("stored latest %v, map at %v; now %v", s.Latest, s.MapAt, time.Now())
		}
	})
}

// TestPauseIsNeverNothing: an instant that has come already does not make the loop spin.
func TestPauseIsNeverNothing(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	for _, s := range []struct{ in, want time.Duration }{
		{-time.Hour, leastPause}, {0, leastPause}, {1, 1}, {time.Second, time.Second}, {time.Hour, longestPause},
	} {
		if got := (&looper{next: now.Add(s.in)}).pause(now); got != s.want {
			t.Errorf("an instant in %s: a pause of %s, want %s", s.in, got, s.want)
		}
	}
}
