//go:build unix

package pool

import "syscall"

// signalled is the signal that ended a process, or 0.
func signalled(sys any) syscall.Signal {
	if s, ok := sys.(syscall.WaitStatus); ok && s.Signaled() {
		return s.Signal()
	}
	return 0
}
