package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

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
						long = 14 * time.Hour // past half its life and the jitter
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

// TestQuestionsWithoutEnd: whatever control asks at once, few answers are under way, and
// what it asks later is answered.
func TestQuestionsWithoutEnd(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.parts.Store(new(parts))
		b.on(wire.PathFlows, func([]byte) (any, *api.Problem) {
			time.Sleep(time.Second)
			return nil, nil
		})
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			m := mapOf(1, time.Time{})
			say(wire.Message{Map: &m})
			for range 2 {
				for range 3 * maxAsks {
					say(wire.Message{Ask: &wire.Ask{ID: "x", Flows: true}})
				}
				select {
				case <-time.After(2 * time.Second):
				case <-gone:
					return
				}
			}
			<-gone
		})
		b.start(t)
		after(time.Second)
		if n := b.count(wire.PathFlows); n != maxAsks {
			t.Errorf("%d are answered at once", n)
		}
		after(2 * time.Second)
		if n := b.count(wire.PathFlows); n != 2*maxAsks {
			t.Errorf("%d are answered in all", n)
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
