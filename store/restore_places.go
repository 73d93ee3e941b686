package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"enclave/store/seal"
)

// places is the list of what a restore gives its place, beside the database, in the
// directory where it works. The next restore, which may be of another backup, takes back
// what one that was interrupted has given its place: an agent's identity or a token of
// another organisation would stay beside a state that knows nothing of them.
const places = ".places"

// staysBehind reports whether adopt leaves a file where it is: locks, the list, and the
// database, which comes last.
func staysBehind(name string) bool {
	return strings.HasPrefix(name, dbName) || strings.HasSuffix(name, ".lock") || name == places
}

// notePlaces writes the list, before anything has its place.
func notePlaces(work string) error {
	list := []string{}
	err := filepath.WalkDir(work, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || staysBehind(d.Name()) {
			return err
		}
		name, err := filepath.Rel(work, path)
		list = append(list, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return err
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return seal.ReplaceFile(filepath.Join(work, places), b)
}

// takeBack removes from dir what the list names and work has no more: that and nothing
// else was moved. It ends with the list, so that it can be interrupted too.
func takeBack(work, dir string) error {
	path := filepath.Join(work, places)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing had its place yet
	}
	var list []string
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return fmt.Errorf("what an interrupted restore moved is not known: %s: %w", path, err)
	}
	var errs []error
	for _, name := range list {
		local, err := filepath.Localize(name)
		if err != nil {
			return fmt.Errorf("what an interrupted restore moved is not known: %s: %q: %w", path, name, err)
		}
		if _, err := os.Lstat(filepath.Join(work, local)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err) // still here
			continue
		}
		if err := os.Remove(filepath.Join(dir, local)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(append(errs, seal.SyncDir(dir))...); err != nil {
		return err
	}
	return os.Remove(path)
}
