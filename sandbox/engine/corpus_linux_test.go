package engine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// limitProcess stands for the walls that a worker has around it: 4 GiB of addresses is
// the runtime's own reserve and little more.
func limitProcess(t *testing.T) {
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: 4 << 30, Max: 4 << 30}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: corpusCPU, Max: corpusCPU}); err != nil {
		t.Fatal(err)
	}
}
