package pool

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/jail"
)

func TestAllowance(t *testing.T) {
	for others, want := range map[int]time.Duration{0: giveWay, 1: giveWay / 2, 9: giveWay / 10} {
		if got := allowanceOf(others); got != want {
			t.Errorf("beside %d: %v, want %v", others, got, want)
		}
	}
	for _, tc := range []struct{ lasted, used, want time.Duration }{
		{giveWay, 0, giveWay}, // it waited: its time is still ahead
		{giveWay, giveWay - time.Microsecond, 5 * time.Millisecond}, // not at once again: it may wait now
		{time.Minute, 0, look}, // a long wait is looked at seldom
		{time.Millisecond, giveWay, time.Millisecond},
	} {
		if got := pace(tc.lasted, tc.used, giveWay); got != tc.want {
			t.Errorf("lasted %v, used %v: look in %v, want %v", tc.lasted, tc.used, got, tc.want)
		}
	}
}

// told hands out what the pool says of runs that give way.
type told struct{ pids chan int }

func (told) Enabled(context.Context, slog.Level) bool { return true }
func (h told) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h told) WithGroup(string) slog.Handler          { return h }
func (h told) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "sandbox run gives way" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "pid" {
				h.pids <- int(a.Value.Int64())
			}
			return true
		})
	}
	return nil
}

// TestACrowdGivesWay fills every place that a tenant may have with runs that only
// compute, waits until all have given way, and runs another tenant's script beside them:
// it finds a worker that has given nothing away.
func TestACrowdGivesWay(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has threads that give way")
	}
	const crowd = 8
	h := told{pids: make(chan int, 100)}
	p, err := New(Config{Size: 2 * crowd, Log: slog.New(h)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer leave()
	for range crowd {
		all.Go(func() {
			p.Run(ctx, sandbox.Spec{Source: "let i = 0; while (i >= 0) { i = (i + 1) % 1000 } return i", Level: sandbox.Permissive, Tenant: "crowd",
				Gate: sandbox.GateOff, Limits: sandbox.Limits{Iterations: 1 << 50, Timeout: 50 * time.Second}}, &echo{})
		})
	}
	for range crowd {
		select {
		case pid := <-h.pids:
			if !jail.Demoted(pid) {
				t.Errorf("the worker %d does not give way with all its threads", pid)
			}
		case <-t.Context().Done():
			t.Fatal("not all gave way")
		}
	}
	p.mu.Lock()
	if n := p.yielded["crowd"]; n != crowd {
		t.Errorf("%d runs of the crowd are known to have given way, want %d", n, crowd)
	}
	p.mu.Unlock()
	if !p.debtor("crowd") || p.debtor("honest") {
		t.Error("the crowd is to wait for spare workers, and nobody else")
	}
	for range 5 {
		res := p.Run(ctx, sandbox.Spec{Source: "return await callTool('echo', {})", Level: sandbox.Strict, Tenant: "honest",
			Tools: []sandbox.Tool{{Name: "echo"}}}, &echo{})
		if !res.OK {
			t.Errorf("an honest run: %v", res.Error)
		}
	}
	leave()
	all.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.yielded) != 0 {
		t.Errorf("%v is left of the crowd", p.yielded)
	}
}

// TestAWorkerThatDiedIsNotTheRunsProblem kills the workers that wait: a run takes
// another one.
func TestAWorkerThatDiedIsNotTheRunsProblem(t *testing.T) {
	p, err := New(Config{Warm: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 5 {
		w := <-p.fresh
		w.kill()
		<-w.gone
		p.fresh <- w
		res := p.Run(t.Context(), sandbox.Spec{Source: "return 1", Level: sandbox.Strict}, &echo{})
		if !res.OK {
			t.Fatal(res.Error)
		}
	}
}

// TestADebtorLeavesHalf asks for workers as a tenant whose runs gave way: half of those
// that are ready stay for others, and debtors take what is spare one by one.
func TestADebtorLeavesHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{cfg: Config{Warm: 4}, closing: make(chan struct{}), wanted: make(chan struct{}, 4), fresh: make(chan *process, 4), plenty: make(chan struct{}, 1),
			debtors: make(chan struct{}, 1), yielded: map[string]int{"crowd": 1}, debts: map[string]time.Time{}}
		everything := jail.Walls(jail.All())
		for range 4 {
			p.fresh <- &process{walls: everything}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var taken atomic.Int32
		for range 8 {
			go func() {
				if w, _, _ := p.take(ctx, sandbox.Spec{Tenant: "crowd", Level: sandbox.Strict}); w != nil {
					taken.Add(1)
				}
			}()
		}
		synctest.Wait()
		if len(p.fresh) != 2 || taken.Load() != 2 {
			t.Errorf("%d are left, %d taken", len(p.fresh), taken.Load())
		}
		if w, _, bad := p.take(ctx, sandbox.Spec{Tenant: "honest", Level: sandbox.Strict}); w == nil {
			t.Errorf("an honest one: %v", bad)
		}
		for range 2 { // what a refiller does
			p.fresh <- &process{walls: everything}
			p.tellSpare()
		}
		synctest.Wait()
		if len(p.fresh) != 2 || taken.Load() != 3 {
			t.Errorf("%d are left, %d taken", len(p.fresh), taken.Load())
		}
		cancel()
		synctest.Wait()
		p.yielded["crowd"], p.debts["crowd"] = 0, time.Now().Add(debt)
		if !p.debtor("crowd") {
			t.Error("the debt ends with the run")
		}
		time.Sleep(debt + 1)
		if p.debtor("crowd") {
			t.Error("the debt does not end")
		}
	})
}

// TestRunsThatWaitHoldBackNoDebtor takes workers for runs that then wait, one after the
// other: what is ready, or being made, is always enough for a debtor.
func TestRunsThatWaitHoldBackNoDebtor(t *testing.T) {
	for warm := 1; warm <= 8; warm++ {
		synctest.Test(t, func(t *testing.T) {
			p := &Pool{cfg: Config{Warm: warm}, closing: make(chan struct{}), wanted: make(chan struct{}, warm), fresh: make(chan *process, warm), plenty: make(chan struct{}, 1),
				debtors: make(chan struct{}, 1), yielded: map[string]int{"crowd": 1}, debts: map[string]time.Time{}}
			for range warm {
				p.wanted <- struct{}{}
			}
			for n := range 2 * warm {
				for _, tenant := range []string{"waits", "crowd"} {
					for len(p.wanted) > 0 { // what a refiller does
						<-p.wanted
						p.fresh <- &process{walls: jail.Walls(jail.All())}
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if w, _, bad := p.take(ctx, sandbox.Spec{Tenant: tenant, Level: sandbox.Strict}); w == nil {
						t.Errorf("%d are kept ready: beside %d runs that wait %s finds %d: %v", warm, n, tenant, len(p.fresh), bad)
					}
					cancel()
				}
			}
		})
	}
}
