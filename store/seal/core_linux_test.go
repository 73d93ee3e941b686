package seal

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const dumpChild = "ENCLAVE_SEAL_DUMP_CHILD"

// TestNoCoreDump asks in a process of its own: the setting cannot be taken back.
func TestNoCoreDump(t *testing.T) {
	if os.Getenv(dumpChild) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoCoreDump$")
		cmd.Env = append(os.Environ(), dumpChild+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := NoCoreDump(); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); n != 0 || err != nil {
		t.Errorf("dumpable %d, %v", n, err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core limit %+v, %v", limit, err)
	}
}

// TestPin wants the root's page locked where the system lets us.
func TestPin(t *testing.T) {
	if err := CanPin(); err != nil {
		t.Skip(err)
	}
	before := lockedMemory(t)
	var kept []*Root
	for range 300 { // more than one page of them
		kept = append(kept, NewRoot())
	}
	if after := lockedMemory(t); after <= before {
		t.Errorf("%d kB locked before, %d after", before, after)
	}
	for _, r := range kept {
		r.Wipe()
	}
}

// lockedMemory is how much of this process stays out of the swap, in kB.
func lockedMemory(t *testing.T) (kb int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmLck:")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
