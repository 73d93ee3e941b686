package pool

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"enclave/sandbox/jail"
)

// startTime is how long a worker may take to say that its walls stand.
const startTime = 10 * time.Second

// process is one worker, seen from the parent.
type process struct {
	os     *os.Process
	state  *os.ProcessState // when it is gone
	in     *os.File         // to the worker
	out    *os.File         // from the worker
	reader *bufio.Reader
	walls  jail.Walls
	gone   chan struct{} // closed when it has been waited for
	kill   func()

	// What follows belongs to whoever holds the worker.
	tenant string
	runs   int
	memory int64 // the limit it was bound to; 0: not yet
	idle   time.Time
}

// starter starts a worker with these as its standard input and output.
type starter func(in, out *os.File) (*os.Process, error)

// alone starts workers one by one, each with all its namespaces, or bare, in the group if
// there is one.
func alone(exe string, namespaces bool, g *jail.Group) starter {
	return func(in, out *os.File) (*os.Process, error) {
		from := jail.Bare
		if namespaces {
			from = jail.Alone
		}
		cmd := jail.Command(exe, nameWorker+string(from), namespaces, g)
		cmd.Stdin, cmd.Stdout = in, out
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return cmd.Process, nil
	}
}

// start starts a worker and waits until its walls stand. The calling thread must live
// as long as the worker should: the kernel ends the worker with it.
func start(by starter) (*process, error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		_, _ = theirIn.Close(), in.Close()
		return nil, fmt.Errorf("start worker: %w", err)
	}
	started, err := by(theirIn, theirOut)
	_, _ = theirIn.Close(), theirOut.Close()
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, fmt.Errorf("start worker: %w", err)
	}
	p := &process{os: started, in: in, out: out, reader: bufio.NewReaderSize(out, 32<<10), gone: make(chan struct{})}
	p.kill = sync.OnceFunc(func() { _ = started.Kill() })
	go func() {
		jail.Await(started)
		p.state, _ = started.Wait()
		close(p.gone)
	}()
	if err := p.greeting(); err != nil {
		p.end()
		return nil, fmt.Errorf("start worker: %w", err)
	}
	return p, nil
}

func (p *process) greeting() error {
	_ = p.out.SetReadDeadline(time.Now().Add(startTime))
	k, body, err := readFrame(p.reader)
	if err != nil {
		return fmt.Errorf("it ended, or said nothing: %w", err)
	}
	var r ready
	if err := parse(body, &r); err != nil || k != kindReady || r.Version != frameVersion {
		return errors.New("it speaks another version")
	}
	for _, w := range jail.All() {
		for _, name := range r.Walls {
			if name == string(w) {
				p.walls = append(p.walls, w)
			}
		}
	}
	return p.out.SetReadDeadline(time.Time{})
}

// cut kills the worker and lets go of what it may still say: a process that has given
// way to all others may take its time to die.
func (p *process) cut() {
	p.kill()
	_ = p.out.SetReadDeadline(time.Unix(1, 0))
}

// end kills the worker and waits until it is gone.
func (p *process) end() {
	p.kill()
	<-p.gone
	_, _ = p.in.Close(), p.out.Close()
}
