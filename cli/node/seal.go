package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"enclave/store"
	"enclave/store/seal"
	"enclave/wire/api"
)

// ErrNoState is returned for a directory with nothing that could be sealed.
var ErrNoState = errors.New("there is no state here")

// SealState is how a state directory is sealed.
type SealState struct {
	Dir        string          `json:"state"`
	Root       uint32          `json:"root"`      // number of the newest
	Made       time.Time       `json:"root_made"` // when that was
	Unfinished bool            `json:"rotation_unfinished,omitempty"`
	Recipients []SealRecipient `json:"recipients"`
	Beside     bool            `json:"identity_beside_state"` // the directory alone opens itself
	Pages      *int64          `json:"pages_checked,omitempty"`
	Running    string          `json:"running,omitempty"` // open, locking or locked; empty where no control plane runs
	Rotation   *api.Rotation   `json:"rotation,omitempty"`
	Open       []string        `json:"open_to_others,omitempty"` // what other users of the machine may enter or read, with its mode
}

// SealRecipient is one who can open it.
type SealRecipient struct {
	Kind      string `json:"kind"`
	Recipient string `json:"recipient"` // public
}

// Seal works on the seal of a state directory that no process runs on; Status alone
// also beside one.
type Seal struct {
	Dir        string
	Identities []seal.Identity
}

// present fails where there is no state, so that a wrong --state makes nothing.
func (s Seal) present() error {
	if err := store.CheckRestored(s.Dir); err != nil {
		return err
	}
	if kind, err := seal.Look(s.database()); err != nil || kind != seal.Empty {
		return err
	}
	if _, err := os.Lstat(filepath.Join(s.Dir, seal.KeyringName)); err != nil && !seal.HasFiles(s.Dir) {
		return fmt.Errorf("%s: %w", s.Dir, ErrNoState)
	}
	return nil
}

func (s Seal) database() string { return filepath.Join(s.Dir, store.DatabaseName) }

// ErrClear is returned for a state that is still in clear.
var ErrClear = errors.New("the state is in clear; the next start seals it")

// Status reads the keyring. With pages it also checks every page of the database,
// which nobody may have open then.
func (s Seal) Status(pages bool) (st SealState, err error) {
	if err := s.present(); err != nil {
		return st, err
	}
	if _, err := os.Lstat(filepath.Join(s.Dir, seal.KeyringName)); errors.Is(err, os.ErrNotExist) {
		if kind, _ := seal.Look(s.database()); kind == seal.Plain || kind == seal.Empty {
			return st, fmt.Errorf("%s: %w", s.Dir, ErrClear)
		}
	}
	k, how, err := seal.Unseal(s.Dir, s.Identities)
	if err != nil {
		return st, fmt.Errorf("unseal: %w", err)
	}
	defer k.Wipe()
	st = SealState{Dir: s.Dir, Open: openToOthers(s.Dir), Unfinished: len(k.Roots()) > 1, Beside: how.Own}
	_, st.Root, st.Made = k.Newest()
	for _, r := range k.Recipients() {
		st.Recipients = append(st.Recipients, SealRecipient{r.Kind(), r.String()})
	}
	if !pages {
		return st, nil
	}
	n, err := store.CheckPages(s.Dir, k)
	st.Pages = &n
	return st, err
}

// openToOthers lists the directory and the files in it that have wider modes than ours.
func openToOthers(dir string) (list []string) {
	if runtime.GOOS == "windows" {
		return nil // modes say nothing there
	}
	note := func(name string, info fs.FileInfo, err error) {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			list = append(list, fmt.Sprintf("%s (mode %04o)", name, info.Mode().Perm()))
		}
	}
	info, err := os.Stat(dir)
	note(dir, info, err)
	files, _ := os.ReadDir(dir) // what cannot be listed is not open
	for _, f := range files {
		if f.Type().IsRegular() || f.IsDir() {
			info, err := f.Info()
			note(filepath.Join(dir, f.Name()), info, err)
		}
	}
	return list
}

// Change changes whom the keyring is encrypted to.
func (s Seal) Change(ctx context.Context, now time.Time, f func(*seal.Keyring) (detail any, err error)) error {
	if err := s.present(); err != nil {
		return err
	}
	if kind, err := seal.Look(s.database()); err != nil || kind != seal.Empty {
		return errors.Join(err, store.ChangeRecipients(ctx, s.Dir, store.Change{By: operator, At: now}, f, store.WithIdentities(s.Identities...)))
	}
	return s.alone(func(k *seal.Keyring) error {
		if _, err := f(k); err != nil {
			return err
		}
		return k.Save()
	})
}

// operator is the actor of what is done on the state itself.
const operator store.Actor = "operator"

// Rotate seals everything in the directory under a new root, and returns its number.
func (s Seal) Rotate(ctx context.Context, now time.Time) (store.Rotated, error) {
	if err := s.present(); err != nil {
		return store.Rotated{}, err
	}
	if kind, err := seal.Look(s.database()); err != nil || kind != seal.Empty {
		r, err2 := store.Rotate(ctx, s.Dir, store.Change{By: operator, At: now}, store.WithIdentities(s.Identities...))
		return r, errors.Join(err, err2)
	}
	var r store.Rotated
	err := s.alone(func(k *seal.Keyring) (err error) {
		r.Root, err = k.RotateFiles(ctx, s.Dir, now)
		return err
	})
	return r, err
}

// alone runs f on the keyring of an agent, a relay or a sandbox server while none runs.
func (s Seal) alone(f func(*seal.Keyring) error) error {
	for _, name := range []string{"agent", "relay", "sandbox"} {
		lock, err := store.LockDir(s.Dir, name)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	k, _, err := seal.Unseal(s.Dir, s.Identities)
	if err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	defer k.Wipe()
	return f(k)
}
