package jail

import (
	"io"
	"os"
	"syscall"
	"testing"
)

// TestANurserysWorkerEndsWithItsParent, or with the thread that started its nursery, which
// is the same to the kernel: it does not depend on a worker that notices.
func TestANurserysWorkerEndsWithItsParent(t *testing.T) {
	if interpreted(t) {
		t.Skip("the loader of this program is not in a nursery")
	}
	exe, err := Executable()
	if err != nil {
		t.Fatal(err)
	}
	theirIn, hold, err := os.Pipe() // it stays open: a worker that lives on waits for it
	if err != nil {
		t.Fatal(err)
	}
	in, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var n *Nursery
	var p *os.Process
	done := make(chan error)
	go OnThread(func() {
		var err error
		if n, err = NewNursery(exe, "jail-nursery-of-jail-test-stay-"+string(Nursed), nil, false); err == nil {
			p, err = n.Start(theirIn, theirs)
		}
		_, _ = theirIn.Close(), theirs.Close()
		if err == nil {
			_, _ = io.ReadFull(in, make([]byte, 1)) // its walls stand
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_ = n.cmd.Wait() // the kernel tells both at once
	_ = n.conn.Close()
	_ = hold.Close()
	state, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := state.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by itself: %v", state)
	}
}
