package paths

import (
	"fmt"
	"testing"
	"time"

	"enclave/agent/path"
	"enclave/e2e/natlab"
)

// TestNarrowPaths has a pair talk in small packets and in full ones while alice's link
// takes less and less. Her own kernel knows; what comes to her is dropped in silence.
func TestNarrowPaths(t *testing.T) {
	t.Logf("seed %d", baseSeed())
	for _, tt := range []struct {
		mtu    int
		direct bool
		inner  int // of the largest packet that goes directly, to alice; 0: all
	}{
		{1500, true, 0},
		{1340, true, 0}, // 1280, 32 of WireGuard, 8 of UDP, 20 of IPv4
		{1339, true, 1248},
		{1280, true, 1200},
		{1260, true, 1200},
		{1259, true, 992},
		{800, true, 736},
		{576, true, 516},
	} {
		t.Run(fmt.Sprint(tt.mtu), func(t *testing.T) {
			scenario(t, baseSeed()+uint64(tt.mtu), 1, func(w *world) {
				thin := natlab.Over(natlab.LinkConfig{Latency: 10 * time.Millisecond, MTU: tt.mtu, Blackhole: true})
				alice := w.system("alice", w.lab.Host("alice", w.lab.Behind(natlab.Easy()), thin))
				bob := w.system("bobby", w.lab.Host("bobby", w.lab.Behind(natlab.Easy()), wireLink))
				time.Sleep(5 * time.Second)
				w.introduce(alice, bob)
				begun := time.Now()
				for n := range uint64(300) {
					for _, size := range []int{64, 1240, 1280} {
						alice.send(bob, 10*n, size)
						bob.send(alice, 10*n, size)
						time.Sleep(20 * time.Millisecond)
					}
				}
				time.Sleep(time.Second)
				if got := direct(alice, bob); got != tt.direct {
					w.t.Errorf("direct %v, want %v: %s, %s", got, tt.direct, alice.route(bob).Why, bob.route(alice).Why)
				}
				if got := bob.route(alice).MTU; got != tt.inner {
					w.t.Errorf("%d bytes go directly to alice, want %d", got, tt.inner)
				}
				if why := bob.route(alice).Why; !tt.direct && why != path.WhyNarrow {
					w.t.Errorf("why %q, want %q", why, path.WhyNarrow)
				}
				for _, s := range []*system{alice, bob} {
					came := map[int]int{}
					for _, a := range s.heard.since(begun.Add(5 * time.Second)) {
						came[a.size]++
					}
					if came[64] < 215 || came[1240] < 215 || came[1280] < 215 {
						w.t.Errorf("of some 217 packets of each size %s got %v", s.name, came)
					}
				}
			})
		})
	}
}

// TestAPathGetsNarrower takes a full-size flow from a wide link to a narrow one, whose
// router says so.
func TestAPathGetsNarrower(t *testing.T) {
	scenario(t, baseSeed(), 1, func(w *world) {
		alice := w.system("alice", w.lab.Host("alice", w.lab.Behind(natlab.Easy()), wireLink))
		bob := w.system("bobby", w.lab.Host("bobby", w.lab.Behind(natlab.Easy()), wireLink))
		time.Sleep(5 * time.Second)
		w.introduce(alice, bob)
		pour := func(d time.Duration) (gap time.Duration) {
			last := time.Now()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				from := time.Now()
				bob.send(alice, 1, 1280)
				time.Sleep(100 * time.Millisecond)
				if len(alice.heard.since(from)) > 0 {
					last = time.Now()
				}
				gap = max(gap, time.Since(last))
			}
			return gap
		}
		pour(20 * time.Second)
		if r := bob.route(alice); !r.Route.IsDirect() || r.MTU != 0 {
			w.t.Fatalf("to begin with: %+v", r)
		}
		router := alice.host.Network().Router()
		if err := router.SetUplink(natlab.LinkConfig{MTU: 1300}); err != nil {
			w.t.Fatal(err)
		}
		gap := pour(30 * time.Second)
		r := bob.route(alice)
		if !r.Route.IsDirect() || r.MTU != 1200 && r.MTU != 1248 || gap > mustFlow {
			w.t.Errorf("narrower: %+v after a gap of %v", r, gap)
		}
		t.Logf("narrower: full packets were back after %v, by the relay; up to %d bytes go directly", gap, r.MTU)
	})
}
