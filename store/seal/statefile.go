package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// File is a small document of a state directory, such as what an agent remembers,
// sealed as one value and replaced whole. Its place is its name, so that an agent's
// document does not open as a relay's.
type File struct {
	path string
	keys *Keyring
}

// maxFile bounds a document on reading. An agent's map of 10,000 peers has 10 MB.
const maxFile = 256 << 20

// OpenFile returns the document name in dir, with the keyring of that directory. It
// makes the keyring where nothing is sealed yet.
func OpenFile(dir, name string, ids []Identity) (*File, Opened, error) {
	k, how, err := Unseal(dir, ids)
	if err != nil {
		return nil, how, fmt.Errorf("unseal: %w", err)
	}
	return &File{filepath.Join(dir, name), k}, how, nil
}

// NewFile returns the document name in dir, sealed with keys that somebody else has
// opened and will drop.
func NewFile(dir, name string, keys *Keyring) *File { return &File{filepath.Join(dir, name), keys} }

func isSealed(path string) (bool, error) {
	b, err := firstSector(path)
	return len(b) > 0 && b[0] == valueVersion, err
}

// place is what the document at path is sealed with.
func place(path string) string { return "file/" + filepath.Base(path) }

// Load reads the document; fs.ErrNotExist where there is none yet and ErrValue where
// it does not open. One in clear, of a time before documents were sealed, is returned
// as it is: whether it is whole is for its reader to say, before Settle seals it.
func (f *File) Load() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes", f.path, info.Size())
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	if len(b) > 0 && b[0] == '{' {
		return b, nil
	}
	return f.keys.Open(place(f.path), b)
}

// Settle seals a document that is in clear.
func (f *File) Settle() error {
	if sealed, err := isSealed(f.path); sealed || err != nil {
		return err
	}
	b, err := f.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Save(b)
}

// SaveWait is how long a save waits for its turn: whoever has it seals a few small files.
const SaveWait = 30 * time.Second

// Save replaces the document, in its turn.
func (f *File) Save(b []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), SaveWait)
	defer cancel()
	return Replacing(ctx, filepath.Dir(f.path), func() error { return f.SaveNow(b) })
}

// SaveNow is Save for who has the turn already.
func (f *File) SaveNow(b []byte) error {
	sealed, err := f.keys.Seal(place(f.path), b)
	if err != nil {
		return err
	}
	return ReplaceFile(f.path, sealed)
}

// Close drops the keys.
func (f *File) Close() { f.keys.Wipe() }

// documents are the sealed documents that a state directory may have.
var documents = [...]string{"agent.json", "relay.json", "sandbox.json"}

// ResealFiles seals every document in dir under the newest root.
func (k *Keyring) ResealFiles(ctx context.Context, dir string) error {
	return Replacing(ctx, dir, func() error { return k.resealFiles(dir) })
}

func (k *Keyring) resealFiles(dir string) error {
	for _, name := range documents {
		f := &File{filepath.Join(dir, name), k}
		b, err := f.Load()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = f.SaveNow(b)
		}
		if clear(b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// RotateFiles seals the documents of a directory that has nothing else under a new
// root, drops the old one and returns the number of the new. A crash leaves documents
// that open, as in a rotation of a database.
func (k *Keyring) RotateFiles(ctx context.Context, dir string, now time.Time) (uint32, error) {
	if len(k.roots) == 1 { // else this ends a rotation that was interrupted
		if err := k.Grow(now); err != nil {
			return 0, err
		}
	}
	if err := k.ResealFiles(ctx, dir); err != nil {
		return 0, err
	}
	k.Retire()
	return k.newest().number, k.Save()
}

// HasFiles reports whether dir has a document that this package seals.
func HasFiles(dir string) bool {
	for _, name := range documents {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
