//go:build unix

package seal

import "golang.org/x/sys/unix"

// pin keeps b, and what shares its page of memory, out of the swap, where the system
// lets this process (RLIMIT_MEMLOCK). Go's heap does not move.
func pin(b []byte) { _ = unix.Mlock(b) }

// CanPin reports whether the system lets this process keep memory out of the swap.
func CanPin() error {
	b := make([]byte, pageSize)
	if err := unix.Mlock(b); err != nil {
		return err
	}
	return unix.Munlock(b)
}
