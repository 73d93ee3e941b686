package store

import (
	"fmt"
	"io"
	"path/filepath"
)

// LockDir makes dir if there is none, checks that nobody else can read it and keeps
// other processes from locking the same name in it until the result is closed.
func LockDir(dir, name string) (io.Closer, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := CheckRestored(dir); err != nil {
		return nil, err
	}
	f, err := acquire(filepath.Join(dir, name+".lock"))
	if err != nil { // not f, which would be a Closer that is not nil
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return f, nil
}
