package store

import (
	"io"
	"path/filepath"
)

// LockDir makes dir if there is none, checks that nobody else can read it and keeps
// other processes from locking the same name in it until the result is closed.
func LockDir(dir, name string) (io.Closer, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	return acquire(filepath.Join(dir, name+".lock"))
}
