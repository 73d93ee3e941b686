package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What can be wrong when a store is opened.
var (
	ErrLocked       = errors.New("another process runs on this state directory")
	ErrDamaged      = errors.New("the store file is damaged; it was left untouched, restore a backup")
	ErrNewer        = errors.New("the store was written by a newer program")
	ErrOpenToOthers = errors.New("the state directory is open to other users")
	ErrNotOurs      = errors.New("the state belongs to another user, who can read and change all of it")
	ErrClosed       = errors.New("the store is closed")
	ErrFull         = errors.New("the disk is full: nothing was changed; make room and try again")
	ErrDisk         = errors.New("the disk failed")
	ErrNotStopped   = errors.New("the store was not stopped in order; start it once")
)

// What can be wrong with a request to it.
var (
	ErrNotFound  = errors.New("not found")
	ErrAmbiguous = errors.New("the name fits several")
	ErrStale     = errors.New("it has changed since; read it again")
	ErrConflict  = errors.New("not possible in this state")
)

// Why an enrolment key is refused.
var (
	ErrKeyUnknown   = errors.New("enrolment key is unknown, disabled or of another kind")
	ErrKeyExpired   = errors.New("enrolment key has expired")
	ErrKeyUsedUp    = errors.New("enrolment key has no uses left")
	ErrKeyElsewhere = errors.New("enrolment key does not enrol from this address")
	ErrKeyTag       = errors.New("enrolment key does not give this tag")
	ErrRevoked      = errors.New("this identity was revoked; enrol with a new one")
	ErrNoAddress    = errors.New("no free overlay address is left")
)

// AmbiguousError lists what a name fits. It is an ErrAmbiguous.
type AmbiguousError struct {
	Name string
	IDs  []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q fits several: %s; use an ID", e.Name, strings.Join(e.IDs, ", "))
}

// Is makes the error match ErrAmbiguous.
func (e *AmbiguousError) Is(target error) bool { return target == ErrAmbiguous }

// notFound names what was missed.
func notFound[T ~string](what string, id T) error {
	return fmt.Errorf("%s %.80q: %w", what, string(id), ErrNotFound)
}

// conflict says why a change is not possible.
func conflict(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrConflict)...)
}

// translate gives SQLite's errors their meaning here. Callers never see a code.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, sql.ErrConnDone) || err.Error() == "sql: database is closed" {
		return ErrClosed
	}
	if code(err) == sqlite3.SQLITE_IOERR_DATA { // what package seal answers for a wrong MAC
		return fmt.Errorf("%w (a page is not as it was written)", ErrDamaged)
	}
	switch code(err) & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w (%v)", ErrDamaged, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w (%v)", ErrFull, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%w (%v)", ErrDisk, err)
	case sqlite3.SQLITE_CONSTRAINT:
		return fmt.Errorf("%w (%v)", ErrConflict, err)
	}
	return err
}

// explain is translate for work under a context: when the context ended, that is
// why the work failed, whatever the driver calls it (a rolled back transaction, an
// interrupt).
func explain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w (%v)", ctx.Err(), err)
	}
	return translate(err)
}

func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
