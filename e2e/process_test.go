package e2e

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// binary builds the executable once for all tests of the package. A test that runs
// itself again in a namespace hands it on.
var binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv(binaryVariable); bin != "" {
		return bin, nil
	}
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "enclave")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %v\n%s", err, out)
	}
	return bin, nil
})

// buildDir is where binary builds; what removes it must not build for that.
var buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "enclave-e2e-") })

const binaryVariable = "ENCLAVE_E2E_BINARY"

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if dir, err := buildDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// process is one running command.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  *bufio.Reader
	err  *syncBuffer
	done chan struct{}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (l *lab) start(name string, args ...string) *process {
	l.t.Helper()
	p := &process{t: l.t, name: name, cmd: exec.Command(l.bin, args...), err: &syncBuffer{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), l.env...)
	p.cmd.Stderr = p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		p.kill()
		if l.t.Failed() {
			l.t.Logf("%s, %s, said:\n%s", name, p.cmd.ProcessState, tail(p.stderr(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (p *process) stderr() string { return p.err.String() }

// line reads one line of stdout.
func (p *process) line(within time.Duration) string {
	p.t.Helper()
	got := make(chan string, 1)
	go func() { s, _ := p.out.ReadString('\n'); got <- s }()
	select {
	case s := <-got:
		return s
	case <-time.After(max(within, patience)):
		p.t.Fatalf("%s prints no line within %s:\n%s", p.name, within, p.stderr())
		return ""
	}
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // gone already is fine
	_ = p.cmd.Wait()
}

// interrupt is Ctrl-C; it returns the exit code.
func (p *process) interrupt() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	return p.exits(5 * time.Second)
}

// exits waits for the process to end by itself and returns the exit code.
func (p *process) exits(within time.Duration) int {
	p.t.Helper()
	ended := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(max(within, patience)):
		p.t.Fatalf("%s does not end within %s:\n%s", p.name, within, p.stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// patience is the least that anything is waited for: a loaded machine holds a process up
// for longer than any figure that says how fast it usually is, and who gets what he waits
// for does not wait longer.
const patience = time.Minute

// within does what takes little time, and up to five times where something held it up: what
// waits too long does so each time.
func within(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	var took []time.Duration
	for range 5 {
		began := time.Now()
		do()
		if took = append(took, time.Since(began)); took[len(took)-1] <= limit {
			return
		}
	}
	t.Errorf("%s takes %v, each time more than %s", what, took, limit)
}

// until polls ok; separate processes leave no one event to wait for.
func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(max(within, patience)); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}
