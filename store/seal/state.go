package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Names in a state directory.
const (
	KeyringName  = "keyring.age"
	IdentityName = "identity.age.txt"
)

// magic is how every SQLite file begins. It is sixteen bytes, one cipher block, and
// never changes, so it tells under which root a file is sealed even when a crash left
// the rest of the page torn.
const magic = "SQLite format 3\x00"

// ErrNoKeyring is returned for a sealed file without its keyring.
var ErrNoKeyring = errors.New("the state is sealed and " + KeyringName + " is missing; put it back from a backup")

// Kind is what a database file is.
type Kind int

// What Look finds.
const (
	Empty  Kind = iota // none yet
	Plain              // of SQLite, in clear
	Sealed             // anything else
)

// Look tells what the file at path is, from its first bytes alone.
func Look(path string) (Kind, error) {
	b, err := firstSector(path)
	switch {
	case err != nil:
		return Empty, err
	case len(b) == 0:
		return Empty, nil
	case bytes.HasPrefix(b, []byte(magic)):
		return Plain, nil
	}
	return Sealed, nil
}

func firstSector(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, sectorSize)
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b[:n], err
}

// RootOf returns the root that the file at path is sealed under. A file that shows
// none, because it is empty, damaged or another state's, gets the newest: SQLite
// will say what is wrong with it.
func (k *Keyring) RootOf(path string) (*Root, error) {
	b, err := firstSector(path)
	if err != nil {
		return nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(k.roots) == 0 {
		return nil, ErrWiped
	}
	if len(b) == sectorSize {
		for _, n := range k.roots {
			s := bytes.Clone(b)
			x := newSectors(n.Root, database)
			x.decrypt(s, 0)
			x.wipe()
			if bytes.HasPrefix(s, []byte(magic)) {
				return n.Root, nil
			}
		}
	}
	return k.newest().Root, nil
}

// Opened tells how a state was unsealed.
type Opened struct {
	Made bool // the keyring is new
	Own  bool // the identity is the one beside the state
}

// Unseal opens the keyring of a state directory. Without identities it takes the one
// beside the state. Where nothing is sealed yet it makes what is missing: the keyring,
// and without identities one of those.
func Unseal(dir string, ids []Identity) (*Keyring, Opened, error) {
	how := Opened{Own: len(ids) == 0}
	path, beside := filepath.Join(dir, KeyringName), filepath.Join(dir, IdentityName)
	_, err := os.Lstat(path)
	how.Made = errors.Is(err, fs.ErrNotExist)
	if err != nil && !how.Made {
		return nil, how, err
	}
	if how.Made {
		// A new keyring would hide that the right one is lost.
		if sealed, err := anySealed(dir); err != nil || sealed {
			return nil, how, errors.Join(err, ErrNoKeyring)
		}
	}
	if how.Own {
		if ids, err = ReadIdentities(beside); errors.Is(err, fs.ErrNotExist) {
			if !how.Made {
				return nil, how, ErrNoIdentity
			}
			ids, err = makeIdentity(beside)
		}
		if err != nil {
			return nil, how, err
		}
	}
	if !how.Made {
		k, err := ReadKeyring(path, ids)
		return k, how, err
	}
	var to []Recipient
	for _, id := range ids {
		to = append(to, id.Recipient)
	}
	k := NewKeyring(path, time.Now(), to...)
	return k, how, k.Save()
}

// anySealed reports whether something in dir is sealed.
func anySealed(dir string) (bool, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.db"))
	for _, name := range names {
		if kind, err := Look(name); err != nil || kind == Sealed {
			return kind == Sealed, err
		}
	}
	for _, name := range documents {
		if sealed, err := isSealed(filepath.Join(dir, name)); err != nil || sealed {
			return sealed, err
		}
	}
	return false, err
}

// ReadIdentities reads a file of identities.
func ReadIdentities(path string) ([]Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIdentityFile+1))
	defer clear(b)
	if err != nil {
		return nil, err
	}
	return ParseIdentities(b)
}

func makeIdentity(path string) ([]Identity, error) {
	id, text, err := GenerateIdentity()
	if err != nil {
		return nil, err
	}
	file := fmt.Sprintf("# Opens %s in this directory. Keep a copy elsewhere: without it the state is lost.\n"+
		"# Whoever has both reads the state; see \"enclave seal --help\".\n%s\n", KeyringName, text)
	return []Identity{id}, ReplaceFile(path, []byte(file))
}
