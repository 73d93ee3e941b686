package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"filippo.io/age"
)

// A parcel is what leaves the machine, a backup: a stream encrypted to recipients, with
// the keys of the sealed values in it.

// Encrypt returns a writer that encrypts to the recipients; its Close ends the stream.
func Encrypt(w io.Writer, to []Recipient) (io.WriteCloser, error) {
	list := make([]age.Recipient, len(to))
	for i, r := range to {
		var err error
		if list[i], err = r.age(); err != nil {
			return nil, err
		}
	}
	out, err := age.Encrypt(w, list...)
	if err != nil {
		return nil, ErrMixed // the texts are valid, so it can only be that
	}
	return out, nil
}

// Decrypt returns what Encrypt was given. Reading reports a stream that was changed or
// cut off; what was read before that is no more than its beginning.
func Decrypt(r io.Reader, ids []Identity) (io.Reader, error) {
	if len(ids) == 0 {
		return nil, ErrNoIdentity
	}
	list := make([]age.Identity, len(ids))
	for i, id := range ids {
		list[i] = id.Identity
	}
	out, err := age.Decrypt(r, list...)
	if miss := (*age.NoIdentityMatchError)(nil); errors.As(err, &miss) {
		return nil, ErrWrongIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("no file that was sealed to a recipient, or its beginning is damaged: %w", err)
	}
	return out, nil
}

// Secrets returns the roots, for a parcel; Reborn reads them.
func (k *Keyring) Secrets() ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var list []rootFile
	for _, r := range k.roots {
		list = append(list, rootFile{r.number, r.made, r.secret[:]})
	}
	return json.Marshal(list)
}

// Reborn makes a keyring with the roots of another and one of its own above them, for
// other recipients.
func Reborn(path string, now time.Time, secrets []byte, to ...Recipient) (*Keyring, error) {
	var list []rootFile
	if err := json.Unmarshal(secrets, &list); err != nil || len(list) == 0 || len(list) >= maxRoots {
		return nil, errors.New("the roots cannot be read")
	}
	k := &Keyring{path: path, recipients: to}
	for _, rf := range list {
		if err := k.take(rf); err != nil {
			return nil, err
		}
	}
	k.roots = append(k.roots, rootMade(k.newest().number+1, now)) // and kept by Save, before anybody seals by it
	return k, nil
}

// take adds a root that was read.
func (k *Keyring) take(rf rootFile) error {
	if len(rf.Root) != rootSize || len(k.roots) > 0 && rf.Number <= k.newest().number || rf.Number == 0 {
		return errors.New("a root is out of order or has the wrong size")
	}
	root := newRoot()
	copy(root.secret[:], rf.Root)
	clear(rf.Root)
	k.roots = append(k.roots, newNumbered(root, rf.Number, rf.Made))
	return nil
}

// Documents opens the sealed documents in dir, by name.
func (k *Keyring) Documents(dir string) (map[string][]byte, error) {
	out := make(map[string][]byte)
	for _, name := range documents {
		f := &File{filepath.Join(dir, name), k}
		b, err := f.Load()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = b
	}
	return out, nil
}

// PutDocument seals a document of dir, where nobody else does. Only the names that a state
// has are taken.
func (k *Keyring) PutDocument(dir, name string, b []byte) error {
	for _, known := range documents {
		if name == known {
			return (&File{filepath.Join(dir, name), k}).SaveNow(b)
		}
	}
	return fmt.Errorf("a state has no document %.40q", name)
}
