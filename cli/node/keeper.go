package node

import (
	"errors"
	"fmt"
	"sync"

	"enclave/agent"
	"enclave/store/seal"
)

// Keeper keeps the state of an agent or a relay sealed. The keyring is opened by the
// first Load or Save, because `up` makes it only when it opens the store.
type Keeper struct {
	Dir, File  string
	Identities []seal.Identity // none: the one beside the state
	Damaged    error           // what a state that does not open is

	mu   sync.Mutex // guards file
	file *seal.File
}

// Use makes the keeper keep its state with keys that somebody else has opened.
func (k *Keeper) Use(f *seal.File) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file = f
}

var _ agent.Keeper = (*Keeper)(nil)

func (k *Keeper) open() (*seal.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil {
		return k.file, nil
	}
	file, _, err := seal.OpenFile(k.Dir, k.File, k.Identities)
	k.file = file
	return file, k.explain(err)
}

// explain gives the errors of seal the meaning they have for who keeps the state.
func (k *Keeper) explain(err error) error {
	if errors.Is(err, seal.ErrValue) {
		return fmt.Errorf("%w: %w", k.Damaged, err)
	}
	return err
}

// Load returns the state; fs.ErrNotExist where there is none yet.
func (k *Keeper) Load() ([]byte, error) {
	file, err := k.open()
	if err != nil {
		return nil, err
	}
	b, err := file.Load()
	return b, k.explain(err)
}

// Save replaces the state.
func (k *Keeper) Save(b []byte) error {
	file, err := k.open()
	if err != nil {
		return err
	}
	return file.Save(b)
}

// Settle seals a state that is in clear, of an older version. Its reader calls it once
// it has found the state whole: a damaged one stays as it is.
func (k *Keeper) Settle() error {
	file, err := k.open()
	if err != nil {
		return err
	}
	return k.explain(file.Settle())
}
