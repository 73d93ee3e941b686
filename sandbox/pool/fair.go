package pool

import (
	"sync"
	"time"

	"enclave/sandbox/jail"
)

// giveWay is how much processor time a run may use like all others. After that it
// lets everybody else go first, for good.
const giveWay = 20 * time.Millisecond

// look is how often a run is looked at that has not used its time: it may only wait.
const look = 100 * time.Millisecond

// allowance is what a run of a tenant may use whose other runs have given way already:
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
	gave    bool // read after stop
}

func (p *Pool) watch(w *process) *fairness {
	f := &fairness{p: p, w: w, began: time.Now(), started: jail.Used(w.os.Pid), end: make(chan struct{})}
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
	if f.gave {
		f.p.mu.Lock()
		if f.p.yielded[f.w.tenant]--; f.p.yielded[f.w.tenant] == 0 {
			delete(f.p.yielded, f.w.tenant)
		}
		f.p.mu.Unlock()
	}
	return f.gave
}
