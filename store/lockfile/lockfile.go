// Package lockfile takes advisory locks on files, between processes and between two
// openings of a file in one. The system lets a lock go with its file: a process that is
// killed leaves none behind.
package lockfile

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrHeld is returned by Try when somebody else has the lock.
var ErrHeld = errors.New("the file is locked")

// How often WaitFor looks: whoever waits is a person's command or a save that nobody waits
// for, and a holder writes one small file.
const (
	firstLook = time.Millisecond
	lastLook  = 50 * time.Millisecond
)

// WaitFor is Wait until ctx ends, and then its error: the system's own wait knows no end.
func WaitFor(ctx context.Context, f *os.File) error {
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		if err := Try(f); !errors.Is(err, ErrHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
