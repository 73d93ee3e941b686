package seal

import (
	"os"

	"golang.org/x/sys/windows"
)

// waitFor locks one byte of f, which the system lets go when f is closed.
func waitFor(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, new(windows.Overlapped))
}
