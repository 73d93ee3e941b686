//go:build unix

package seal

import (
	"errors"
	"os"
)

// SyncDir makes what was created and renamed in dir durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
