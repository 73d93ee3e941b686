//go:build unix

package seal

import (
	"errors"
	"syscall"
)

// NoCoreDump keeps the keys in this process's memory out of a file that a crash would
// leave, and on Linux out of the reach of other processes of the same user.
func NoCoreDump() error {
	return errors.Join(syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}), noDump())
}
