package engine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// limitMemory stands for the wall that a worker has around it: 4 GiB of addresses is
// the runtime's own reserve and little more.
func limitMemory(t *testing.T) {
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: 4 << 30, Max: 4 << 30}); err != nil {
		t.Fatal(err)
	}
}
