package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"enclave/store/seal"
	"enclave/wire/api"
)

// rotated is what `seal rotate` prints.
type rotated struct {
	Root        uint32 `json:"root"`
	Pages       int64  `json:"pages"`
	PauseMicros int64  `json:"writers_paused_us,omitempty"`
}

// sealPoll spaces the questions after what was begun.
const sealPoll = 150 * time.Millisecond

func (a *app) liveSeal(ctx context.Context) (api.Seal, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cl, err := a.client()
	if err != nil {
		return api.Seal{}, err
	}
	return cl.Seal(ctx)
}

// rotateOnline has the running control plane do it and follows.
func (a *app) rotateOnline(ctx context.Context) (r rotated, err error) {
	cl, err := a.client()
	if err != nil {
		return r, err
	}
	s, err := cl.SealDo(ctx, "rotate")
	if err != nil {
		return r, err
	}
	p := a.progress("rotate")
	defer p.end()
	for s.Rotation != nil && s.Rotation.Ended == nil {
		p.at(s.Rotation.Done, s.Rotation.Total)
		if !pause(ctx, sealPoll) {
			return r, fmt.Errorf("the rotation goes on without us: %w", ctx.Err())
		}
		if s, err = cl.Seal(ctx); err != nil {
			return r, err
		}
	}
	switch {
	case s.Rotation == nil:
		return r, errors.New("the server was restarted meanwhile; run it again")
	case s.Rotation.Error != "":
		return r, &failure{exit: exitTryAgain, Code: "not_rotated", Message: s.Rotation.Error, Hint: "the state opens as before; run it again"}
	}
	return rotated{s.Rotation.Root, s.Rotation.Pages, s.Rotation.PauseMicros}, nil
}

// lockState is what `seal lock` and `seal unlock` print.
type lockState struct {
	State string `json:"state"`
}

func (a *app) sealLock() *cobra.Command {
	return &cobra.Command{Use: "lock", Short: "Drop every key from the running control plane's memory",
		Long: `Drops every key of the state from the memory of the running control plane, with all that
they opened. From then on the API answers 503 with the code "sealed", agents get no
changes and go on with what they know for as long as that counts, and relaying goes on.
"enclave seal unlock" opens the state again without a restart.`,
		Example: "  enclave seal lock --state lab",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.SealDo(c.Context(), "lock")
			if err != nil && !isSealed(err) {
				return err
			}
			for err != nil || s.State != api.SealLocked {
				if !pause(c.Context(), sealPoll) {
					return c.Context().Err()
				}
				if s, err = cl.Seal(c.Context()); err != nil && !isSealed(err) {
					return err
				}
			}
			return a.print(lockState{s.State}, func(w io.Writer) {
				fmt.Fprintln(w, "locked: no key is in memory; \"enclave seal unlock\" opens the state again")
			})
		}}
}

// isSealed reports whether the server says that its state is locked.
func isSealed(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code == api.CodeSealed
}

func (a *app) sealUnlock() *cobra.Command {
	var f unsealFlags
	return f.flags(&cobra.Command{Use: "unlock", Short: "Open a locked state again",
		Long: `Opens the state of a running control plane that was locked. What opens it travels to the
control plane inside TLS, to the organisation's own certificate.`,
		Example: "  enclave seal unlock --state lab --identity operator.txt\n  ssh vault cat operator.txt | enclave seal unlock --state lab --identity -",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			in, err := a.unlocking(&f)
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.Unlock(c.Context(), in)
			if err != nil {
				return err
			}
			return a.print(lockState{s.State}, func(w io.Writer) { fmt.Fprintln(w, "unlocked") })
		}})
}

// unlocking reads what opens the state, as text: the other side parses it.
func (a *app) unlocking(f *unsealFlags) (in api.Unlock, err error) {
	if _, err := a.identities(&unsealFlags{passphrase: f.passphrase}); err != nil {
		return in, err // says what is wrong with it
	}
	if file := first(f.passphrase, a.Getenv("ENCLAVE_PASSPHRASE_FILE")); file != "" {
		if in.Passphrase, err = readSecret(file); err != nil {
			return in, err
		}
	}
	file := first(f.identity, a.Getenv("ENCLAVE_IDENTITY_FILE"))
	var b []byte
	switch {
	case file == "-":
		b, err = io.ReadAll(io.LimitReader(a.In, maxIdentity))
	case file != "":
		if b, err = readSmall(file); err != nil {
			err = usage("--identity: %v", err)
		}
	case in.Passphrase == "":
		dir, bad := a.stateDir()
		if bad != nil {
			return in, bad
		}
		if b, err = readSmall(filepath.Join(dir, seal.IdentityName)); errors.Is(err, os.ErrNotExist) {
			err = seal.ErrNoIdentity
		}
	}
	if err != nil {
		return in, err
	}
	defer clear(b)
	if len(b) > 0 {
		if _, err := seal.ParseIdentities(b); err != nil {
			return in, usage("--identity: %v", err)
		}
	}
	in.Identity = string(b)
	return in, nil
}
