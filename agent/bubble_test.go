package agent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// bubble runs an enrolled agent beside a scripted control plane; hours pass in
// milliseconds.
func bubble(t *testing.T, scenario func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrg(t, time.Now())
		s := newScript(t, o)
		b := newBench(t, s, o.enrolled(time.Now()))
		scenario(t, b)
		if b.cancel != nil {
			b.cancel()
			<-b.done
		}
		s.l.Close()
	})
}

// after lets time pass and everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) wantState(t *testing.T, want string) {
	t.Helper()
	if got := b.Status(); got.State != want {
		t.Errorf("state %q, want %q (control: %+v)", got.State, want, got.Control)
	}
}

func (b *bench) wantPeers(t *testing.T, want string) {
	t.Helper()
	if got := b.plane.now(); got != want {
		t.Errorf("%q are in force, want %q", got, want)
	}
}

// steadyStream sends m and heartbeats that extend it by life.
func steadyStream(m wire.Map, life time.Duration) func(func(wire.Message), <-chan struct{}) {
	return func(say func(wire.Message), gone <-chan struct{}) {
		m := m
		m.ValidUntil = time.Now().Add(life)
		say(wire.Message{Map: &m})
		for {
			select {
			case <-time.After(wire.HeartbeatEvery):
				now := time.Now()
				say(wire.Message{Heartbeat: &wire.Heartbeat{Now: now, Revision: m.Revision, ValidUntil: now.Add(life)}})
			case <-gone:
				return
			}
		}
	}
}

// TestLifeOfAMap: followed, offline, closed on time, back by itself; and the same
// again after a restart with control away.
func TestLifeOfAMap(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.onStream(steadyStream(mapOf(3, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), always)), time.Hour))
		b.wantState(t, api.AgentStarting)
		b.start(t)
		after(2 * time.Hour) // heartbeats extend it
		b.wantState(t, api.AgentRunning)
		b.wantPeers(t, "bbbbb")
		if s := b.Status(); s.Revision != 3 || !s.Control.Connected || time.Until(*s.ValidUntil) < 59*time.Minute || s.Self.Name != "me" {
			t.Errorf("status %+v", s)
		}

		b.cut(true)
		b.l.cut()
		after(50 * time.Minute)
		b.wantState(t, api.AgentOffline)
		b.wantPeers(t, "bbbbb")
		if err := b.Status().Control.Error; !strings.Contains(err, "connection refused") {
			t.Errorf("the status says %q", err)
		}
		b.stop(t) // with control away, from what is stored
		b.start(t)
		after(time.Second)
		b.wantState(t, api.AgentOffline)
		b.wantPeers(t, "bbbbb")
		after(15 * time.Minute)
		b.wantState(t, api.AgentClosed)
		b.wantPeers(t, "")
		if _, err := b.peer("nbbbbb", "nbbbbb:80"); !errors.Is(err, ErrUnknownName) || !strings.Contains(err.Error(), "no word from control") {
			t.Errorf("a name in a closed agent: %v", err)
		}
		b.stop(t)
		b.start(t)
		after(time.Second)
		b.wantState(t, api.AgentClosed) // a restart does not open it again

		b.cut(false)
		b.onStream(steadyStream(mapOf(3, time.Time{}, b.org.peer("ccccc", 3, time.Now(), always)), time.Hour))
		after(backoffMost)
		b.wantState(t, api.AgentRunning)
		b.wantPeers(t, "ccccc")
	})
}

// TestHoursOpenOffline: the pair of a policy with hours meets again on time with
// control gone.
func TestHoursOpenOffline(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		now := time.Now()
		p := b.org.peer("bbbbb", 2, now, span{until: now.Add(time.Hour)}, span{now.Add(3 * time.Hour), now.Add(4 * time.Hour)})
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			m := mapOf(3, now.Add(24*time.Hour), p)
			say(wire.Message{Map: &m})
		})
		b.start(t)
		after(time.Minute)
		b.cut(true)
		b.wantPeers(t, "bbbbb")
		after(time.Until(now.Add(time.Hour)))
		b.wantPeers(t, "")
		after(2*time.Hour - time.Nanosecond)
		b.wantPeers(t, "")
		b.stop(t)
		b.start(t)
		after(time.Nanosecond)
		b.wantPeers(t, "bbbbb")
		after(time.Hour)
		b.wantPeers(t, "")
	})
}

// TestGapAsksForAFullMap: a message that does not follow ends the stream, never the
// agent, and the next stream begins with a full map.
func TestGapAsksForAFullMap(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		now := time.Now()
		p := b.org.peer("bbbbb", 2, now, always)
		streams := 0
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			streams++
			m := mapOf(wire.Revision(2+streams), now.Add(time.Hour), p)
			say(wire.Message{Map: &m})
			if streams == 1 {
				say(wire.Message{Delta: &wire.Delta{Since: 7, Revision: 8}})
			}
			<-gone
		})
		b.start(t)
		after(5 * time.Second)
		b.wantState(t, api.AgentRunning)
		if streams != 2 || b.Status().Revision != 4 {
			t.Errorf("%d streams, revision %d", streams, b.Status().Revision)
		}
	})
}

// TestOldRevisionAfterRestart: what was seen is not forgotten, and the agent goes on
// with what it has.
func TestOldRevisionAfterRestart(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		now := time.Now()
		b.onStream(steadyStream(mapOf(7, time.Time{}, b.org.peer("bbbbb", 2, now, always)), time.Hour))
		b.start(t)
		after(time.Minute)
		b.stop(t)
		if s := b.stored(t); s.Seen != 7 || len(s.Map) == 0 {
			t.Fatalf("stored revision %d", s.Seen)
		}
		b.onStream(steadyStream(mapOf(6, time.Time{}, b.org.peer("ccccc", 3, now, always)), time.Hour))
		b.start(t)
		after(time.Minute)
		b.wantState(t, api.AgentOffline)
		b.wantPeers(t, "bbbbb")
		if s := b.Status(); !strings.Contains(s.Control.Error, "older") || s.Revision != 7 {
			t.Errorf("status %+v", s.Control)
		}
	})
}

// TestControlThatMovedIsRemembered once it was found there, and not before: an address that
// was mistyped does not take the place of one that works.
func TestControlThatMovedIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrg(t, time.Now())
		s := newScript(t, o)
		st := o.enrolled(time.Now())
		st.Control = "https://old.test"
		b := newBench(t, s, st) // which is told https://control.test
		b.cut(true)
		b.start(t)
		after(time.Minute)
		b.stop(t)
		if got := b.stored(t).Control; got != "https://old.test" {
			t.Errorf("%s is remembered, where nobody was", got)
		}
		b.cut(false)
		b.onStream(steadyStream(mapOf(7, time.Time{}), time.Hour))
		b.start(t)
		after(time.Minute)
		b.stop(t)
		if got := b.stored(t).Control; got != "https://control.test" {
			t.Errorf("%s is remembered", got)
		}
		s.l.Close()
	})
}

// TestClockSetBack: on a machine without a battery for its clock, what has ended
// since must not count again.
func TestClockSetBack(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		st := b.org.enrolled(time.Now())
		m := mapOf(7, time.Now().Add(24*time.Hour), b.org.peer("bbbbb", 2, time.Now(), always))
		st.Seen, st.Map, st.MapAt = 7, encode(m), time.Now().Add(time.Hour)
		b.script.cut(true)
		b = newBench(t, b.script, st)
		b.start(t)
		after(time.Second)
		b.wantState(t, api.AgentStarting)
		b.wantPeers(t, "")
		if !strings.Contains(b.log.String(), "clock was set back") {
			t.Errorf("the log says\n%s", b.log)
		}
		b.cancel()
		<-b.done
	})
}

// TestUnreadableMap costs the map alone: the identity is still good.
func TestUnreadableMap(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		st := b.org.enrolled(time.Now())
		st.Map = []byte(`{"peers":7}`)
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		b = newBench(t, b.script, st)
		b.start(t)
		after(time.Second)
		b.wantState(t, api.AgentRunning)
		b.cancel()
		<-b.done
	})
}

func encode(v any) []byte { b, _ := json.Marshal(v); return b }

// TestNoControlNoMap: says what it waits for, once, and keeps trying.
func TestNoControlNoMap(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.cut(true)
		b.start(t)
		after(10 * time.Minute)
		b.wantState(t, api.AgentStarting)
		if log := b.log.String(); !strings.Contains(log, "nothing is reachable until control answers") || strings.Count(log, "control is away") != 1 {
			t.Errorf("the log says\n%s", log)
		}
		b.cut(false)
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		after(backoffMost)
		b.wantState(t, api.AgentRunning)
	})
}

func TestDisabledStays(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		m := mapOf(1, time.Time{})
		m.Self.State = wire.Disabled
		b.onStream(steadyStream(m, time.Hour))
		b.start(t)
		after(time.Hour)
		b.wantState(t, api.AgentDisabled)
	})
}

// TestPlaneFails: a data plane that does not follow is not acknowledged, is said, and
// is tried again until it does.
func TestPlaneFails(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.plane.fail = errors.New("out of sockets")
		b.onStream(steadyStream(mapOf(4, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), always)), time.Hour))
		b.start(t)
		after(time.Minute)
		if s := b.Status(); s.Revision != 0 || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "out of sockets") {
			t.Errorf("status %+v", s)
		}
		if n := strings.Count(b.log.String(), "out of sockets"); n != 1 {
			t.Errorf("said %d times", n)
		}
		b.plane.mu.Lock()
		b.plane.fail = nil
		b.plane.mu.Unlock()
		after(longestPause)
		b.wantPeers(t, "bbbbb")
		if s := b.Status(); s.Revision != 4 || len(s.Warnings) != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestClockWarning: an agent whose clock drifts away after enrolment says by how much
// and which way, also while control is away.
func TestClockWarning(t *testing.T) {
	for skew, want := range map[time.Duration]string{7 * time.Minute: "7m0s behind control's", -7 * time.Minute: "7m0s ahead of control's", 4 * time.Minute: ""} {
		bubble(t, func(t *testing.T, b *bench) {
			b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
				m := mapOf(1, time.Now().Add(time.Hour))
				say(wire.Message{Map: &m})
				if b.count(wire.PathStream) > 1 {
					<-gone
					return
				}
				time.Sleep(time.Second)
				say(wire.Message{Heartbeat: &wire.Heartbeat{Now: time.Now().Add(skew), Revision: 1, ValidUntil: time.Now().Add(time.Hour)}})
			})
			b.start(t)
			time.Sleep(time.Second)
			b.cut(true)
			after(time.Minute)
			got := strings.Join(b.Status().Warnings, "\n")
			b.cut(false)
			after(backoffMost)
			b.wantState(t, api.AgentRunning) // and when it is back, before the next heartbeat
			got += strings.Join(b.Status().Warnings, "\n")
			if want == "" && got != "" || want != "" && strings.Count(got, want) != 2 {
				t.Errorf("skew %s: %q", skew, got)
			}
		})
	}
}

func TestEternalMapWarns(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			m := mapOf(1, time.Time{})
			say(wire.Message{Map: &m})
			<-gone
		})
		b.start(t)
		after(time.Second)
		if s := b.Status(); s.ValidUntil != nil || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "never expires") {
			t.Errorf("status %+v", s)
		}
	})
}
