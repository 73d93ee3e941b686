package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

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
