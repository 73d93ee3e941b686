package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"enclave/store/lockfile"
)

// acquire opens the lock file and locks it for as long as it is open. The file
// holds the process number for the message of whoever comes second; the lock, not
// the number, is what counts.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = lockfile.Try(f)
	if errors.Is(err, lockfile.ErrHeld) {
		err = ErrLocked
		text, _ := io.ReadAll(io.LimitReader(f, 20))
		if pid, bad := strconv.Atoi(strings.TrimSpace(string(text))); bad == nil {
			err = fmt.Errorf("%w (process %d)", ErrLocked, pid)
		}
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), write(f, strconv.Itoa(os.Getpid())+"\n"))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func write(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
