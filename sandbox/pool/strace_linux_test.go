package pool

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAWorkerOpensNothing runs scripts under strace: once a worker has said that its
// walls stand, it opens no file, makes no socket, starts no program and no process.
func TestAWorkerOpensNothing(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	out := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-o", out, os.Args[0], "-test.run", "^TestARunThroughAWorker$")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("strace does not work here: %v: %.200s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	// A thread of a worker is known by its parent thread's clone, and a worker by the
	// frame that says it is ready.
	thread := regexp.MustCompile(`^(\d+) +(?:clone\(.*CLONE_THREAD.*|<\.\.\. clone resumed>.*)= (\d+)$`)
	walled := map[string]bool{}
	workers := 0
	call := regexp.MustCompile(`^(\d+) +(\w+)\(`)
	allowed := map[string]bool{"read": true, "write": true, "close": true, "futex": true, "sched_yield": true, "nanosleep": true,
		"epoll_pwait": true, "munmap": true, "mmap": true, "mprotect": true, "madvise": true, "rt_sigreturn": true, "rt_sigprocmask": true,
		"rt_sigaction": true, "sigaltstack": true, "getpid": true, "gettid": true, "clock_gettime": true, "getrusage": true,
		"getrandom": true, "exit": true, "exit_group": true, "restart_syscall": true, "clone": true, "tgkill": true, "prctl": true,
		// What a C library does for a thread that it starts, in programs built with cgo.
		"clone3": true, "rseq": true, "set_robust_list": true, "brk": true}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		m := call.FindStringSubmatch(line)
		if m != nil && m[2] == "write" && strings.Contains(line, `W{\"version`) {
			walled[m[1]] = true
			workers++
			continue
		}
		if m != nil && walled[m[1]] && !allowed[m[2]] {
			t.Errorf("after its walls stood: %s", line)
		}
		if c := thread.FindStringSubmatch(line); c != nil && walled[c[1]] {
			walled[c[2]] = true
		}
	}
	if workers < 4 {
		t.Errorf("saw %d workers in the trace", workers)
	}
}
