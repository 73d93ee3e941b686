// Package lockfile takes advisory locks on files, between processes and between two
// openings of a file in one. The system lets a lock go with its file: a process that is
// killed leaves none behind.
package lockfile

import "errors"

// ErrHeld is returned by Try when somebody else has the lock.
var ErrHeld = errors.New("the file is locked")
