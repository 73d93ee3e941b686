package engine

import (
	"context"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"

	"enclave/sandbox"
)

// halt ends a run from inside. It is thrown as a Go panic that the engine does not
// know: it passes every catch and finally of the script, in callbacks and promise
// jobs too, up to run's recover.
type halt struct{ err *sandbox.Error }

// meter is the budget of one run. n and max belong to the goroutine of the run.
type meter struct {
	n, max int64
	work   int64 // elements of native work not yet worth an iteration
	memory int64 // bytes the script may hold
	base   int64 // bytes of the heap that were there before
	rt     *goja.Runtime

	peak   atomic.Int64
	stop   atomic.Pointer[sandbox.Error] // why the run is to end, first reason wins
	forbid atomic.Pointer[sandbox.Error] // a forbidden key was asked for; the run fails even if that was caught
}

// elements of native work (array elements visited, bytes made) that cost one iteration.
const elements = 100

// overrun ends the run: the budget of iterations is spent.
func (m *meter) overrun() {
	panic(&halt{sandbox.Errorf(sandbox.CodeIterations, "the run took more than %d iterations (passes of loops, calls of functions, and work inside built-ins together)", m.max)})
}

// charge takes work on n elements from the budget, before it is done. It also looks
// whether the run is to end: natives do not see the engine's interrupt.
func (m *meter) charge(n int64) {
	if e := m.stop.Load(); e != nil {
		panic(&halt{e})
	}
	if n < 0 || n > 1<<53 {
		n = 1 << 53
	}
	m.work += n
	m.n += m.work / elements
	m.work %= elements
	if m.n > m.max {
		m.overrun()
	}
}

// afford ends the run if work on n elements is more than is left of the budget. It
// takes nothing.
func (m *meter) afford(n int64) {
	if (m.work+n)/elements > m.max-m.n {
		m.overrun()
	}
}

// alloc refuses, before it is made, what alone would pass the memory limit, and
// charges for making it.
func (m *meter) alloc(bytes int64) {
	if bytes > m.memory {
		panic(&halt{m.tooMuch()})
	}
	m.charge(bytes / 64)
}

func (m *meter) tooMuch() *sandbox.Error {
	return sandbox.Errorf(sandbox.CodeMemory, "the script held more than %d MiB", m.memory>>20)
}

// end makes the run stop as soon as it can.
func (m *meter) end(e *sandbox.Error) {
	if m.stop.CompareAndSwap(nil, e) {
		m.rt.Interrupt(e)
	}
}

// tick is how often the heap is looked at. What a script can allocate in between is
// far less than the allowance of the process.
const tick = 3 * time.Millisecond

const heapObjects = "/memory/classes/heap/objects:bytes"

// watch ends the run when what the script holds passes the limit, until ctx ends.
// The collector is told of the limit, so what is dead goes before the limit is
// reached; what is over it then is looked at once more after a full collection.
func (m *meter) watch(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	sample := []metrics.Sample{{Name: heapObjects}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		held := heapOf(sample) - m.base
		m.saw(held)
		if held > m.memory {
			runtime.GC()
			if held = heapOf(sample) - m.base; held > m.memory {
				m.end(m.tooMuch())
				return
			}
		}
	}
}

func (m *meter) saw(held int64) {
	if held > m.peak.Load() {
		m.peak.Store(held)
	}
}

func heapOf(sample []metrics.Sample) int64 {
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
