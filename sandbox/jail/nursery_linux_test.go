package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
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

// TestANurseryThatIsStopped, by a debugger or by who reads on: nobody waits for it but who
// asked when it was, and what it started is waited for, whether it came to say so or not.
func TestANurseryThatIsStopped(t *testing.T) {
	if interpreted(t) {
		t.Skip("the loader of this program is not in a nursery")
	}
	exe, err := Executable()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go OnThread(func() {
		done <- func() error {
			n, err := NewNursery(exe, "jail-nursery-of-jail-test-stay-"+string(Nursed), nil, false)
			if err != nil {
				return err
			}
			told, err := stay(n.Start)
			if err != nil {
				return err
			}
			untold, err := stay(func(in, out *os.File) (*os.Process, error) {
				rights := unix.UnixRights(int(in.Fd()), int(out.Fd()))
				return nil, errors.Join(n.raw.Write(func(fd uintptr) bool {
					return unix.Sendmsg(int(fd), []byte{nurseStart}, rights, nil, 0) == nil
				}))
			})
			if err != nil {
				return err
			}
			if _, err := n.read(make([]byte, 8)); err != nil { // nor is it in the socket
				return err
			}
			_ = n.cmd.Process.Signal(syscall.SIGSTOP)
			n.turn <- struct{}{}
			if _, err := stay(n.Start); !errors.Is(err, ErrBusy) {
				return fmt.Errorf("while another waits: %v", err)
			}
			<-n.turn
			if _, err := stay(n.Start); !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("no answer: %v", err)
			}
			_ = n.cmd.Process.Signal(syscall.SIGCONT)
			if _, err := stay(n.Start); err == nil || !strings.Contains(err.Error(), "no answer") {
				return fmt.Errorf("after it: %v, of perhaps another's worker", err)
			}
			n.Close()
			if left := n.children(); len(left) != 1 || left[0] != told.process.Pid {
				return fmt.Errorf("left: %v, want %d", left, told.process.Pid)
			}
			untold.letGo()
			told.letGo()
			state, err := told.process.Wait()
			if err == nil && !state.Success() {
				err = errors.New(state.String())
			}
			return err
		}()
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// staying is a worker that lives until it is let go, whose walls stand.
type staying struct {
	process *os.Process
	hold    *os.File
	says    *os.File // open for as long: it may have more walls to tell of
}

func (s staying) letGo() { _ = s.hold.Close() }

func stay(start func(in, out *os.File) (*os.Process, error)) (s staying, err error) {
	theirIn, hold, err := os.Pipe()
	if err != nil {
		return s, err
	}
	in, theirs, err := os.Pipe()
	if err != nil {
		return s, err
	}
	s.hold, s.says = hold, in
	s.process, err = start(theirIn, theirs)
	_, _ = theirIn.Close(), theirs.Close()
	if err == nil {
		_, err = io.ReadFull(in, make([]byte, 1))
	}
	return s, err
}
