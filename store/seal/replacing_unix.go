//go:build unix

package seal

import (
	"errors"
	"os"
	"syscall"
)

// waitFor takes the advisory lock of f, which goes with its last descriptor: a process that
// is killed leaves none behind.
func waitFor(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
