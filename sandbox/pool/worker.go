package pool

import (
	"bufio"
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/engine"
	"enclave/sandbox/jail"
	"enclave/sandbox/lean"
)

// A process knows that it is a worker by its argv, which holds this and its origin and
// nothing else, or that it is to start workers.
const (
	nameWorker = lean.Prefix + "worker-"
	nameNurse  = lean.Prefix + "nursery" // jail.Nurse
)

// This init function, one of two in the program (package lean), is here for what it prevents:
// packages are initialised in the order of their paths as soon as what they import is,
// so a worker begins, and ends, before most of the program's other packages have
// compiled their schemas and made their tables. That is half of its start (decision
// 0125). A program that links this package needs nothing else to have workers.
func init() {
	if isWorker(os.Args) {
		// This goroutine is bound to its thread while it initialises: what ran on it would
		// wait for another thread each time it waits for another goroutine.
		go func() {
			stretch()
			os.Exit(work(os.Args))
		}()
		select {}
	}
}

// stretch makes room on the stack of whoever calls it: otherwise what runs next would have it
// copied to one twice as large, four times over.
//
//go:noinline
func stretch() {
	var room [12 << 10]byte
	runtime.KeepAlive(&room)
}

func isWorker(args []string) bool {
	if len(args) != 1 {
		return false
	}
	origin, worker := strings.CutPrefix(args[0], nameWorker)
	switch jail.Origin(origin) {
	case jail.Bare, jail.Alone, jail.Nursed:
		return worker
	}
	return args[0] == nameNurse
}

// maxStack bounds the stack of native recursion, which the limit on calls does not see.
const maxStack = 64 << 20

// work is the life of a worker: it builds its walls, says so, and runs the scripts that
// come on its standard input until that ends. It returns the exit code.
func work(args []string) int {
	if args[0] == nameNurse {
		jail.Nurse(nameWorker+string(jail.Nursed), lean.Word())
		return 0
	}
	time.Local = time.UTC // the machine's own zone is nobody's business, and in a file
	debug.SetMaxStack(maxStack)
	debug.SetGCPercent(200)
	_ = syscall.SetNonblock(0, true)
	in := os.NewFile(0, "in")
	walls := jail.Enter(jail.Origin(strings.TrimPrefix(args[0], nameWorker)))
	e, err := engine.New()
	if err != nil || e.Prepare() != nil {
		return 3
	}
	out := &output{w: os.Stdout}
	out.send(kindReady, readyBody(walls))
	specs, answers := make(chan sandbox.Spec), make(chan engine.Answer, sandbox.MaxPending)
	go receive(in, specs, answers)
	for spec := range specs {
		for len(answers) > 0 {
			<-answers // late ones, of the run before
		}
		before := jail.CPU()
		res := e.Run(context.Background(), spec, out, answers)
		res.Stats.CPU = jail.CPU() - before
		out.send(kindEnd, endBody(res))
		if e.Prepare() != nil {
			return 3
		}
	}
	return 0
}

// receive reads what the parent sends. When that ends, so does the process, whatever
// it is doing: nobody waits for it any more.
func receive(from *os.File, specs chan<- sandbox.Spec, answers chan<- engine.Answer) {
	in := bufio.NewReaderSize(from, 32<<10)
	for {
		k, body, err := readFrame(in)
		if err != nil {
			os.Exit(0)
		}
		switch k {
		case kindRun:
			var s sandbox.Spec
			if parse(body, &s) != nil {
				os.Exit(4)
			}
			specs <- s
		case kindAnswer:
			var a engine.Answer
			if parse(body, &a) != nil {
				os.Exit(4)
			}
			answers <- a
		default:
			os.Exit(4)
		}
	}
}

// output is the worker's half of the pipe to the parent.
type output struct {
	// mu keeps frames whole. It is held across a write: a parent that does not read
	// stops the run, which is what its bound on output means.
	mu sync.Mutex
	w  *os.File
}

func (o *output) send(k kind, v any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if writeFrame(o.w, k, v) != nil {
		os.Exit(4)
	}
}

// Call implements engine.Host.
func (o *output) Call(c sandbox.Call) { o.send(kindCall, c) }

// Output implements engine.Host.
func (o *output) Output(l sandbox.Line) { o.send(kindLine, l) }
