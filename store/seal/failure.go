package seal

import (
	"errors"
	"sync"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite/lib"
)

// ErrSync is what a layer fails with when the system could not make a write durable.
var ErrSync = errors.New("the disk did not keep what was written; nothing is written any more")

// failure is the state of a layer that must not go on.
type failure struct {
	state  atomic.Int32 // 0 while all is well
	notify atomic.Pointer[func(error)]
	once   sync.Once
	inject atomic.Pointer[func(At) Fault]
}

// Notify makes f learn of the first failure of the layer: ErrPage for a page that is not
// as it was written, ErrSync for writes that did not last. Nothing is written after
// either. f must not block.
func (v *VFS) Notify(f func(error)) { v.notify.Store(&f) }

func (v *VFS) fail(err error) {
	v.state.Store(1)
	f := v.notify.Load()
	if f == nil {
		return
	}
	v.once.Do(func() { (*f)(err) })
}

func (v *VFS) broken() bool { return v.state.Load() != 0 }

// At is a place in which the disk can fail, and Fault how: for tests.
type (
	At    int
	Fault int32
)

// The places and the faults.
const (
	AtWrite At = iota
	AtSync

	NoFault Fault = sqlite3.SQLITE_OK
	Full    Fault = sqlite3.SQLITE_FULL
	Broken  Fault = sqlite3.SQLITE_IOERR_FSYNC
)

// Inject lets a test answer for the disk.
func (v *VFS) Inject(f func(At) Fault) { v.inject.Store(&f) }

func (v *VFS) fault(at At) int32 {
	if f := v.inject.Load(); f != nil {
		return int32((*f)(at))
	}
	return sqlite3.SQLITE_OK
}
