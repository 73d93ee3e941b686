package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

	mu   sync.Mutex // guards what follows
	file *seal.File
	lent bool        // the keys are somebody else's, who knows when they change
	ring os.FileInfo // of the keyring, when it was opened
}

// Use makes the keeper keep its state with keys that somebody else has opened.
func (k *Keeper) Use(f *seal.File) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file, k.lent = f, true
}

var _ agent.Keeper = (*Keeper)(nil)

func (k *Keeper) open() (*seal.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil && !k.stale() {
		return k.file, nil
	}
	ring, _ := os.Stat(k.keyring()) // before it is read: what changes meanwhile is seen next time
	file, _, err := seal.OpenFile(k.Dir, k.File, k.Identities)
	if err != nil {
		return nil, k.explain(err)
	}
	k.file, k.ring = file, ring
	return file, nil
}

func (k *Keeper) keyring() string { return filepath.Join(k.Dir, seal.KeyringName) }

// stale reports whether another process has changed the keyring: a control plane that
// lives in the same directory rotates it, and drops the keys at hand; mu is held.
func (k *Keeper) stale() bool {
	if k.lent {
		return false
	}
	now, err := os.Stat(k.keyring())
	return err != nil || k.ring == nil || !os.SameFile(now, k.ring) || !now.ModTime().Equal(k.ring.ModTime()) || now.Size() != k.ring.Size()
}

// explain gives the errors of seal the meaning they have for who keeps the state.
func (k *Keeper) explain(err error) error {
	if errors.Is(err, seal.ErrValue) {
		return fmt.Errorf("%w: %w", k.Damaged, err)
	}
	return err
}

// Load returns the state; fs.ErrNotExist where there is none yet. One that does not open is
// looked at again when a rotation has dropped the keys at hand meanwhile.
func (k *Keeper) Load() ([]byte, error) {
	for {
		file, err := k.open()
		if err != nil {
			return nil, err
		}
		b, err := file.Load()
		if errors.Is(err, seal.ErrValue) && k.changed() {
			continue
		}
		return b, k.explain(err)
	}
}

// changed is stale for who does not hold mu.
func (k *Keeper) changed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stale()
}

// Save replaces the state. The keyring is looked at in the same turn: a rotation puts its
// new keys there before it seals what is there in a turn of its own, so whatever is written
// under old ones is written before that.
func (k *Keeper) Save(b []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), seal.SaveWait)
	defer cancel()
	return seal.Replacing(ctx, k.Dir, func() error {
		file, err := k.open()
		if err != nil {
			return err
		}
		return file.SaveNow(b)
	})
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
