package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Keeper keeps an agent's state between runs. Load returns fs.ErrNotExist where
// there is none yet. Save replaces it whole: a crash leaves the old one or the new.
type Keeper interface {
	Load() ([]byte, error)
	Save(state []byte) error
}

// FileKeeper keeps the state in a file of mode 0600, replaced whole.
type FileKeeper string

// Load reads the file.
func (f FileKeeper) Load() ([]byte, error) { return os.ReadFile(string(f)) }

// Save writes a new file beside the old one, syncs it and renames it over: a crash
// leaves the old state or the new one.
func (f FileKeeper) Save(b []byte) error {
	dir := filepath.Dir(string(f))
	tmp, err := os.CreateTemp(dir, ".agent-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	if _, err := tmp.Write(b); err != nil {
		tmp.Close()
		return err
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), string(f)); err != nil {
		return err
	}
	return syncDir(dir)
}

// MemoryKeeper keeps the state in memory, for demos and tests.
type MemoryKeeper struct {
	mu sync.Mutex // guards b
	b  []byte
}

// Load returns what was saved last.
func (m *MemoryKeeper) Load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(m.b), nil
}

// Save replaces the state.
func (m *MemoryKeeper) Save(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = bytes.Clone(b)
	return nil
}
