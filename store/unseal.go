package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"enclave/store/audit"
	"enclave/store/seal"
	"enclave/wire"
)

// Option changes how a store is opened.
type Option func(*options)

type options struct {
	identities []seal.Identity
	plain      bool // without the file layer, to measure what it costs
	held       *os.File
	onRecord   func(*audit.Record) error
}

// WithHeld opens a state that CloseHolding closed. When that fails it stays held.
func WithHeld(h *Held) Option { return func(o *options) { o.held = h.lock } }

func choose(opts []Option) options {
	var o options
	for _, f := range opts {
		f(&o)
	}
	return o
}

// WithIdentities opens the state's keyring with these, and makes it for their
// recipients on first start. Without them the identity beside the state is used.
func WithIdentities(ids ...seal.Identity) Option {
	return func(o *options) { o.identities = append(o.identities, ids...) }
}

// OnRecord calls f before each audit record is written. Its error refuses the record,
// and with it the change: a test's way to see that nothing happens unrecorded.
func OnRecord(f func(*audit.Record) error) Option {
	return func(o *options) { o.onRecord = f }
}

// WithoutSeal leaves the file layer out, to measure what it costs and for nothing else:
// the file is in clear, until somebody opens it without this.
func WithoutSeal() Option { return func(o *options) { o.plain = true } }

// Sealed tells how the state is sealed.
type Sealed struct {
	seal.Opened
	Converted  bool // the file was in clear until this start
	Recipients []seal.Recipient
	Root       uint32 // number of the newest root
}

// Sealed tells how the state is sealed.
func (s *Store) Sealed() Sealed {
	out := s.sealed
	for _, r := range s.keys.Recipients() {
		out.Recipients = append(out.Recipients, r.Public())
	}
	_, out.Root, _ = s.keys.Newest()
	return out
}

// File is a document of the state's directory, sealed with the store's keys, for as long
// as it is open.
func (s *Store) File(name string) *seal.File { return seal.NewFile(s.dir, name, s.keys) }

// next is where a database is written that will take the place of the one there.
const next = dbName + ".next"

// unseal gets the keys and the file layer, sealing a file that is still in clear.
func (s *Store) unseal(ctx context.Context, dir string, o options) error {
	path := filepath.Join(dir, dbName)
	if err := sweep(dir); err != nil {
		return err
	}
	kind, err := seal.Look(path)
	if err != nil {
		return err
	}
	if kind == seal.Plain && !o.plain { // look before a keyring is made for it
		if err := inspect(ctx, nil, path); err != nil {
			return err
		}
	}
	if s.keys, s.sealed.Opened, err = seal.Unseal(dir, o.identities); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	if o.plain {
		return nil
	}
	if kind == seal.Plain {
		if err := convert(ctx, path, filepath.Join(dir, next), s.keys); err != nil {
			return fmt.Errorf("seal the state: %w", err)
		}
		s.sealed.Converted = true
	}
	root, err := s.keys.RootOf(path)
	if err != nil {
		return err
	}
	s.vfs, err = seal.NewVFS(root)
	return err
}

// sweep removes what a crash left of a file that was to take another's place.
func sweep(dir string) error {
	var errs []error
	for _, pattern := range []string{next + "*", seal.Leftover(seal.KeyringName), seal.Leftover(seal.IdentityName)} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, os.Remove(name))
		}
	}
	if CheckRestored(dir) == nil { // the restore came to its end but for this
		errs = append(errs, os.RemoveAll(filepath.Join(dir, restoring)))
	}
	return errors.Join(errs...)
}

// orgSecret is the place of an organisation's secret, which it is sealed with: the
// sealed bytes do not open in another row or column.
func orgSecret(org wire.OrgID, column string) string {
	return "organisation/" + string(org) + "/" + column
}
