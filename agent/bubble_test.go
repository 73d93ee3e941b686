package agent

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
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

// TestEnrolmentWaits for a control plane that is not there yet, and returns a refusal.
func TestEnrolmentWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrg(t, time.Now())
		s := newScript(t, o)
		defer s.l.Close()
		b := newBench(t, s, nil)
		key := b.keys
		var req wire.EnrolRequest
		s.on(wire.PathEnrol, func(body []byte) (any, *api.Problem) {
			if err := wire.Unmarshal(body, &req); err != nil {
				t.Error(err)
			}
			if s.count(wire.PathEnrol) == 1 {
				return nil, &api.Problem{Status: 503, Code: api.CodeTryAgain, Title: "not now"}
			}
			return wire.EnrolResponse{Now: time.Now(), System: me, Org: o.ca.Org(), State: wire.Pending,
				SVID: o.svid("system", string(me), req.Keys.Identity, time.Now()), Roots: o.ca.Roots()}, nil
		})
		pending := mapOf(1, time.Time{})
		pending.Self.State = wire.Pending
		s.onStream(steadyStream(pending, time.Hour))
		s.cut(true)
		b.start(t)
		after(time.Minute)
		if !strings.Contains(b.log.String(), "enrolment waits for the control plane") {
			t.Errorf("the log says\n%s", b.log)
		}
		s.cut(false)
		after(2 * backoffMost)
		b.wantState(t, api.AgentPending)
		if st := b.stored(t); st.System != me || st.Org != o.ca.Org() || b.keys.Identity != key.Identity || req.Secret != "secret" || !req.Now.Before(time.Now()) {
			t.Errorf("stored %+v", st)
		}
		b.cancel()
		<-b.done
	})
}

func TestEnrolmentRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(o *org, req *wire.EnrolRequest) (any, *api.Problem)
		want   error
		says   string
	}{
		"used up": {func(*org, *wire.EnrolRequest) (any, *api.Problem) {
			return nil, &api.Problem{Status: 403, Code: api.CodeKeyUsedUp, Title: "enrolment key has no uses left"}
		}, errAny, "no uses left"},
		"clock": {func(*org, *wire.EnrolRequest) (any, *api.Problem) {
			return nil, &api.Problem{Status: 400, Code: api.CodeClockSkew, Title: "clocks differ too much", Detail: "7m ahead"}
		}, ErrClock, "7m ahead"},
		"foreign key": {func(o *org, req *wire.EnrolRequest) (any, *api.Problem) {
			return wire.EnrolResponse{System: me, Org: o.ca.Org(), Roots: o.ca.Roots(), SVID: o.enrolled(time.Now()).SVID}, nil
		}, errAny, "somebody else"},
		"foreign roots": {func(o *org, req *wire.EnrolRequest) (any, *api.Problem) {
			other := newOrg(o.t, time.Now())
			return wire.EnrolResponse{System: me, Org: other.ca.Org(), Roots: other.ca.Roots(), SVID: other.svid("system", string(me), req.Keys.Identity, time.Now())}, nil
		}, errAny, "fingerprint"},
		"certificate of tomorrow": {func(o *org, req *wire.EnrolRequest) (any, *api.Problem) {
			return wire.EnrolResponse{System: me, Org: o.ca.Org(), Roots: o.ca.Roots(), SVID: o.svid("system", string(me), req.Keys.Identity, time.Now().Add(time.Hour))}, nil
		}, ErrClock, "not valid yet"},
		"odd system": {func(o *org, req *wire.EnrolRequest) (any, *api.Problem) {
			return wire.EnrolResponse{System: "a-b", Org: o.ca.Org(), Roots: o.ca.Roots(), SVID: o.svid("system", "a-b", req.Keys.Identity, time.Now())}, nil
		}, errAny, "system ID"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrg(t, time.Now())
				s := newScript(t, o)
				defer s.l.Close()
				b := newBench(t, s, nil)
				s.on(wire.PathEnrol, func(body []byte) (any, *api.Problem) {
					var req wire.EnrolRequest
					if err := wire.Unmarshal(body, &req); err != nil {
						t.Error(err)
					}
					return tc.answer(o, &req)
				})
				err := b.Run(t.Context())
				if err == nil || tc.want != errAny && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("got %v, want %v saying %q", err, tc.want, tc.says)
				}
				if b.stored(t).System != "" || s.count(wire.PathEnrol) != 1 {
					t.Error("it kept the identity, or asked again")
				}
				if err := b.Run(t.Context()); !errors.Is(err, ErrRan) {
					t.Errorf("a second run: %v", err)
				}
			})
		})
	}
}

// TestBye: what control says at the end of a stream decides what comes next.
func TestBye(t *testing.T) {
	for code, want := range map[string]error{wire.ByeRevoked: ErrRevoked, wire.ByeReplaced: ErrReplaced, wire.ByeRestart: nil, "later": nil} {
		t.Run(code, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
					m := mapOf(1, time.Time{})
					say(wire.Message{Map: &m})
					if b.count(wire.PathStream) == 1 {
						say(wire.Message{Bye: &wire.Bye{Code: code, Message: "says control"}})
						return
					}
					<-gone
				})
				b.start(t)
				after(5 * time.Second)
				if want == nil {
					b.wantState(t, api.AgentRunning)
					if n := b.count(wire.PathStream); n != 2 {
						t.Errorf("%d streams", n)
					}
					return
				}
				if err := <-b.done; !errors.Is(err, want) || !strings.Contains(err.Error(), "says control") {
					t.Errorf("ended with %v", err)
				}
				b.done <- nil
			})
		})
	}
}

// TestAnswersThatEndNothing is docs/decisions/0092: only control's own word ends an
// identity, on whichever route it is said.
func TestAnswersThatEndNothing(t *testing.T) {
	revoked := &api.Problem{Status: 410, Code: wire.ByeRevoked, Title: "this identity has been removed or revoked"}
	for _, path := range []string{wire.PathStream, wire.PathReport, wire.PathRenew} {
		for name, tc := range map[string]struct {
			p    *api.Problem
			page string
			ends bool
		}{
			"revoked":      {p: revoked, ends: true},
			"unauthorised": {p: &api.Problem{Status: 401, Code: api.CodeUnauthorised, Title: "no"}},
			"forbidden":    {p: &api.Problem{Status: 403, Code: api.CodeForbidden, Title: "certificate has expired"}},
			"gone":         {p: &api.Problem{Status: 410, Title: "a page of somebody in between"}},
			"busy":         {p: &api.Problem{Status: 503, Code: api.CodeTryAgain, Title: "not now"}},
			"a login page": {page: "<html>sign in</html>"},
		} {
			t.Run(strings.TrimPrefix(path, "/agent/v1/")+" "+name, func(t *testing.T) {
				bubble(t, func(t *testing.T, b *bench) {
					b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
					b.on(path, func([]byte) (any, *api.Problem) { return tc.page, tc.p })
					b.start(t)
					long := 10 * time.Minute
					if path == wire.PathRenew {
						long = 13 * time.Hour // past half its life
					}
					after(long)
					select {
					case err := <-b.done:
						if !tc.ends || !errors.Is(err, ErrRevoked) {
							t.Errorf("ended with %v", err)
						}
						b.done <- nil
						return
					default:
					}
					if tc.ends {
						t.Error("it goes on")
					}
					if path != wire.PathStream {
						b.wantState(t, api.AgentRunning) // only the stream is needed to follow
					}
					if n := b.count(path); n > int(long/(backoffMost/4)) {
						t.Errorf("asked %d times in %s", n, long)
					}
				})
			})
		}
	}
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

// TestSilentStream: three beats without a word and the agent connects anew.
func TestSilentStream(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		var at []time.Time
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			at = append(at, time.Now())
			m := mapOf(1, time.Time{})
			say(wire.Message{Map: &m})
			<-gone
		})
		b.start(t)
		after(3*wire.HeartbeatEvery - time.Second)
		b.wantState(t, api.AgentRunning)
		after(2 * time.Second)
		if len(at) != 2 || !strings.Contains(b.log.String(), "silent") {
			t.Fatalf("streams at %v\n%s", at, b.log)
		}
	})
}

// TestRenewal at half life, give or take a tenth; the new identity is kept and shown.
func TestRenewal(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		began := time.Now()
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		var when []time.Duration
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			when = append(when, time.Since(began))
			return wire.RenewResponse{Now: time.Now(), SVID: b.org.svid("system", string(me), b.keys.Identity, time.Now()), Roots: b.org.ca.Roots()}, nil
		})
		b.start(t)
		after(30 * time.Hour)
		half := 12*time.Hour - 2*time.Minute - 30*time.Second // the certificate begins 5 min back
		if len(when) != 2 || when[0] < half*9/10 || when[0] > half*11/10+time.Second {
			t.Fatalf("renewed after %v, want first about %v", when, half)
		}
		if b.count(wire.PathStream) != 1 {
			t.Error("the stream did not outlive the renewal")
		}
		leaf := b.cert.Load().Leaf
		if st := b.stored(t); !slices.Equal(st.SVID[0], leaf.Raw) || time.Until(leaf.NotAfter) < 12*time.Hour {
			t.Errorf("stored SVID is not the one shown, which ends %s", leaf.NotAfter)
		}
		if !b.Status().SVIDUntil.Equal(leaf.NotAfter) {
			t.Error("status shows another end")
		}
	})
}

// TestSleptPastExpiry: an agent whose SVID has ended renews with it before anything
// else, and says so while that fails.
func TestSleptPastExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		st := b.org.enrolled(time.Now())
		after(48 * time.Hour)
		b = newBench(t, b.script, st)
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		var mended atomic.Bool
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			if !mended.Load() {
				return nil, &api.Problem{Status: 400, Code: api.CodeClockSkew, Title: "clocks differ too much"}
			}
			return wire.RenewResponse{SVID: b.org.svid("system", string(me), b.keys.Identity, time.Now())}, nil
		})
		b.start(t)
		after(time.Minute)
		s := b.Status()
		if b.count(wire.PathStream) != 0 || !strings.Contains(s.Control.Error, "clock is off") ||
			len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "ended") || !strings.Contains(s.Warnings[0], "clocks differ") {
			t.Fatalf("%d streams, status %+v", b.count(wire.PathStream), s)
		}
		mended.Store(true)
		after(backoffMost)
		b.wantState(t, api.AgentRunning)
		if w := b.Status().Warnings; len(w) != 0 {
			t.Errorf("warnings %v", w)
		}
		b.cancel()
		<-b.done
	})
}

// TestRenewalFailsAtTheStart: past half its life and not renewed, an SVID still counts,
// and the stream is followed with it.
func TestRenewalFailsAtTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		after(13 * time.Hour)
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			return nil, &api.Problem{Status: 400, Code: api.CodeClockSkew, Title: "clocks differ too much"}
		})
		b.start(t)
		after(time.Minute)
		b.wantState(t, api.AgentRunning)
		if w := b.Status().Warnings; b.count(wire.PathRenew) == 0 || len(w) != 1 || !strings.Contains(w[0], "ends") {
			t.Errorf("warnings %v", w)
		}
	})
}

// TestBadRenewalIsNotUsed: an SVID of another key or a foreign root changes nothing.
func TestBadRenewalIsNotUsed(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		n := 0
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			chain := b.org.enrolled(time.Now()).SVID
			if n++; n%2 == 0 {
				chain = newOrg(t, time.Now()).svid("system", string(me), b.keys.Identity, time.Now())
			}
			return wire.RenewResponse{SVID: chain}, nil
		})
		before := b.cert.Load()
		b.start(t)
		after(14 * time.Hour)
		if b.cert.Load() != before || n < 2 {
			t.Fatalf("after %d answers another certificate is shown", n)
		}
		b.wantState(t, api.AgentRunning)
		if w := b.Status().Warnings; len(w) != 1 || !strings.Contains(w[0], "not renewed yet") {
			t.Errorf("warnings %v", w)
		}
	})
}

// TestReports: what changes while one is under way goes into the next, and nothing
// is told twice.
func TestReports(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		var got []wire.Report
		b.on(wire.PathReport, func(body []byte) (any, *api.Problem) {
			var r wire.Report
			if err := wire.Unmarshal(body, &r); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			got = append(got, r)
			return nil, nil
		})
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			m := mapOf(1, time.Time{})
			say(wire.Message{Map: &m})
			for rev := wire.Revision(1); rev < 50; rev++ {
				say(wire.Message{Delta: &wire.Delta{Since: rev, Revision: rev + 1}})
				b.events.post(&wire.Reach{NAT: "easy", Relay: wire.RelayID(strings.Repeat("x", int(rev)))})
			}
			<-gone
		})
		b.start(t)
		after(20 * time.Second)
		last := got[len(got)-1]
		if len(got) > 4 || last.Applied != 50 {
			t.Fatalf("%d reports, the last %+v", len(got), last)
		}
		n := len(got)
		b.events.post(&wire.Reach{NAT: "easy", Relay: wire.RelayID(strings.Repeat("x", 49))})
		after(20 * time.Second)
		if len(got) != n {
			t.Error("the same reach was reported again")
		}
		b.events.post(&wire.Reach{NAT: "hard", Relay: wire.RelayID(strings.Repeat("x", 49))})
		after(5 * time.Second)
		if len(got) != n+1 || got[n].Reach == nil || got[n].Reach.NAT != "hard" || got[n].Applied != 50 {
			t.Errorf("reports %+v", got[n:])
		}
	})
}

// TestRefusedReach: a reach that control does not take must not cost the
// acknowledgement of the revision.
func TestRefusedReach(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		var acked []wire.Revision
		b.on(wire.PathReport, func(body []byte) (any, *api.Problem) {
			var r wire.Report
			_ = wire.Unmarshal(body, &r)
			time.Sleep(time.Second) // so that revision and reach change under one report
			if r.Reach != nil {
				return nil, &api.Problem{Status: 422, Code: api.CodeInvalid, Title: "reach: nat"}
			}
			acked = append(acked, r.Applied)
			return nil, nil
		})
		b.onStream(steadyStream(mapOf(4, time.Time{}), time.Hour))
		b.start(t)
		after(time.Millisecond)
		b.events.post(&wire.Reach{NAT: "odd"})
		after(time.Minute)
		if len(acked) == 0 || acked[len(acked)-1] != 4 || b.count(wire.PathStream) != 1 || b.count(wire.PathReport) != 3 {
			t.Errorf("acknowledged %v in %d reports over %d streams", acked, b.count(wire.PathReport), b.count(wire.PathStream))
		}
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

// TestSaves: the newest state is on disk soon after a change and at the end, however
// fast changes come, and a disk that fails stops nothing.
func TestSaves(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		k := &countingKeeper{MemoryKeeper: b.keeper}
		b.cfg.Keeper = k
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			m := mapOf(1, time.Now().Add(time.Hour))
			say(wire.Message{Map: &m})
			for rev := wire.Revision(1); rev < 500; rev++ {
				time.Sleep(10 * time.Millisecond)
				say(wire.Message{Delta: &wire.Delta{Since: rev, Revision: rev + 1, ValidUntil: time.Now().Add(time.Hour)}})
			}
			time.Sleep(10 * time.Second)
			say(wire.Message{Heartbeat: &wire.Heartbeat{Revision: 500, ValidUntil: time.Now().Add(9 * time.Hour)}})
			<-gone
		})
		b.start(t)
		after(10 * time.Second)
		if k.saves > 12 || b.stored(t).Seen != 500 {
			t.Errorf("%d writes in 10 s, revision %d", k.saves, b.stored(t).Seen)
		}
		after(10 * time.Second)
		k.fail = true
		b.events.post(&wire.Reach{})
		after(time.Second)
		b.wantState(t, api.AgentRunning)
		k.fail = false
		b.cancel()
		<-b.done
		b.done <- nil
		var m wire.Map
		if err := json.Unmarshal(b.stored(t).Map, &m); err != nil || time.Until(m.ValidUntil) < 8*time.Hour {
			t.Errorf("the end did not keep the last validity: %s, %v", m.ValidUntil, err)
		}
	})
}

type countingKeeper struct {
	*MemoryKeeper
	saves int
	fail  bool
}

func (k *countingKeeper) Save(b []byte) error {
	k.saves++
	if k.fail {
		return errors.New("disk full")
	}
	return k.MemoryKeeper.Save(b)
}

func TestBackoff(t *testing.T) {
	b := backoff{most: backoffMost}
	seen := make(map[time.Duration]bool)
	for i := range 1000 {
		p := b.pause()
		bound := min(backoffFirst<<min(i, 10), backoffMost)
		if p < bound/4 || p > bound {
			t.Fatalf("pause %d is %s, outside %s to %s", i, p, bound/4, bound)
		}
		seen[p] = true
	}
	if len(seen) < 900 {
		t.Errorf("only %d different pauses in 1000: agents would return in step", len(seen))
	}
	b.reset()
	if p := b.pause(); p > backoffFirst {
		t.Errorf("after a reset %s", p)
	}
}
