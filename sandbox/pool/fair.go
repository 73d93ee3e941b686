package pool

import (
	"context"
	"sync"
	"time"

	"enclave/sandbox/jail"
)

// giveWay is how much processor time a run may use like all others. After that it
// lets everybody else go first, for good.
const giveWay = 20 * time.Millisecond

// look is how often a run is looked at that has not used its time: it may only wait.
const look = 100 * time.Millisecond

// allowanceOf is what a run of a tenant may use whose other runs have given way already:
// a crowd has no more between all of its runs than a few.
func allowanceOf(others int) time.Duration { return giveWay / time.Duration(1+others) }

// pace is when to look at a run again that has lasted for so long and used so much.
func pace(lasted, used, may time.Duration) time.Duration {
	return max(may-used, min(lasted/4, look), time.Millisecond)
}

// fairness watches one run and lets it give way.
type fairness struct {
	p       *Pool
	w       *process
	began   time.Time
	started time.Duration // processor time that the worker had used before
	end     chan struct{}
	ended   sync.WaitGroup
	told    func()
	gave    bool // read after stop
}

// watch watches the run of w; gave is called once it has given way.
func (p *Pool) watch(w *process, gave func()) *fairness {
	f := &fairness{p: p, w: w, told: gave, began: time.Now(), started: jail.Used(w.os.Pid), end: make(chan struct{})}
	f.ended.Go(f.run)
	return f
}

func (f *fairness) run() {
	t := time.NewTimer(f.may())
	defer t.Stop()
	for {
		select {
		case <-f.end:
			return
		case <-t.C:
		}
		may, used := f.may(), jail.Used(f.w.os.Pid)-f.started
		if used < may {
			t.Reset(pace(time.Since(f.began), used, may))
			continue
		}
		f.gave = true
		f.p.mu.Lock()
		f.p.yielded[f.w.tenant]++
		f.p.mu.Unlock()
		jail.Demote(f.w.os.Pid)
		f.told()
		f.p.cfg.Log.Debug("sandbox run gives way", "pid", f.w.os.Pid, "tenant", f.w.tenant)
		return
	}
}

func (f *fairness) may() time.Duration {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	return allowanceOf(f.p.yielded[f.w.tenant])
}

// stop ends the watch and reports whether the run has given way.
func (f *fairness) stop() bool {
	close(f.end)
	f.ended.Wait()
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if f.gave {
		f.p.debts[f.w.tenant] = time.Now().Add(debt)
		if f.p.yielded[f.w.tenant]--; f.p.yielded[f.w.tenant] == 0 {
			delete(f.p.yielded, f.w.tenant)
		}
	}
	return f.gave
}

// debt is how long a tenant waits for spare workers after a run of its that gave way.
const debt = time.Second

// debtor reports whether the tenant has runs that gave way, or had some just now. Its next
// ones take no worker that others might want at once: a crowd that comes to its deadlines
// together is a crowd again right after, and would leave none.
func (p *Pool) debtor(tenant string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.yielded[tenant] > 0 || time.Now().Before(p.debts[tenant])
}

// spare waits, in a line of debtors, until more than half of the workers that are kept
// ready are there. The next one waits until done is called.
func (p *Pool) spare(ctx context.Context) (done func(), ok bool) {
	select {
	case p.debtors <- struct{}{}:
	case <-p.closing:
		return nil, false
	case <-ctx.Done():
		return nil, false
	}
	for !p.many() {
		select {
		case <-p.plenty:
			continue
		case <-p.closing:
		case <-ctx.Done():
		}
		<-p.debtors
		return nil, false
	}
	return func() { <-p.debtors }, true
}

// many reports whether more than half of the workers that are kept ready are there. It is
// one bound for who waits in spare and for who puts off making the next worker: with two,
// runs that only wait for an answer could hold back the one that a debtor waits for.
func (p *Pool) many() bool { return 2*len(p.fresh) > p.cfg.Warm }

// tellSpare wakes the one that waits in spare, if there is reason to.
func (p *Pool) tellSpare() {
	if p.many() {
		select {
		case p.plenty <- struct{}{}:
		default:
		}
	}
}
