//go:build !linux

package jail

import (
	"errors"
	"os"
	"os/exec"
	"time"
)

// Enter finds no wall to build on this system: the process is all there is.
func Enter(Origin) Walls { return Walls{Process} }

// Command returns a command that starts the program at path as name, with no
// arguments and no environment.
func Command(path, name string, _ bool, _ *Group) *exec.Cmd {
	return &exec.Cmd{Path: path, Args: []string{name}, Env: []string{}}
}

// ErrBusy is never returned.
var ErrBusy = errors.ErrUnsupported

// Nursery does not exist on this system.
type Nursery struct{}

// NewNursery fails: workers are started one by one.
func NewNursery(string, string, *Group, bool) (*Nursery, error) { return nil, errors.ErrUnsupported }

// Start is never called.
func (*Nursery) Start(_, _ *os.File) (*os.Process, error) { return nil, errors.ErrUnsupported }

// Close is never called.
func (*Nursery) Close() {}

// Nurse is never called.
func Nurse(_, _ string) {}

// NoNamespaces reports false: none were asked for.
func NoNamespaces(error) bool { return false }

// Bound does nothing on this system.
func Bound(int, int64, uint64) error { return nil }

// Resident is not known on this system.
func Resident(int) int64 { return 0 }

// Demote does nothing on this system.
func Demote(int) {}

// Group does not exist on this system.
type Group struct{}

// NewGroup fails: workers are bounded one by one, where at all.
func NewGroup(int64) (*Group, error) { return nil, errors.ErrUnsupported }

// Version is 0: there is none.
func (*Group) Version() int { return 0 }

// Enter does nothing.
func (*Group) Enter() error { return nil }

// Close does nothing.
func (*Group) Close() {}

// MachineMemory is not known on this system.
func MachineMemory() int64 { return 0 }

// Hurry does nothing on this system.
func Hurry() {}

// Await returns at once: the process is waited for by the system's own means.
func Await(*os.Process) {}

// Demoted reports false.
func Demoted(int) bool { return false }

// Used is not known on this system.
func Used(int) time.Duration { return 0 }

// CPU is not known on this system.
func CPU() time.Duration { return 0 }

// Executable names the program that runs now.
func Executable() (string, error) { return os.Executable() }
