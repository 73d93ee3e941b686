package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"enclave/loglimit"
	"enclave/store"
	"enclave/store/seal"
	"enclave/wire/api"
)

// Vault is what can be done to the seal of the state while it is in use.
type Vault interface {
	Seal() api.Seal
	// Rotate begins a rotation; Seal tells how far it is.
	Rotate(c store.Change) error
	// Recipients lets f change who opens the state; detail is for the record.
	Recipients(ctx context.Context, c store.Change, f func(*seal.Keyring) (detail any, err error)) error
	// Lock begins to drop every key and all that they opened.
	Lock(ctx context.Context, c store.Change) error
	// Unlock opens the state again.
	Unlock(ctx context.Context, c store.Change, ids []seal.Identity) error
}

// ErrNoLock is returned where nobody could unlock again.
var ErrNoLock = errors.New("this server cannot be locked: it did not open its state itself")

const (
	sealedText = "the state is locked: its keys are not in memory, and nothing can be served"
	sealedHint = "unlock it with \"enclave seal unlock\""
)

type (
	sealOut  struct{ Body api.Seal }
	unlockIn struct{ Body api.Unlock }

	sealAddIn    struct{ Body api.SealAdd }
	sealRemoveIn struct{ Body api.SealRemove }
)

func (a *API) routeSeal() {
	status := func(context.Context, *struct{}) (*sealOut, error) { return &sealOut{a.vault.Seal()}, nil }
	route(a, "seal-status", status)
	route(a, "seal-rotate", func(ctx context.Context, _ *struct{}) (*sealOut, error) {
		c, _ := change(ctx, "")
		if err := a.vault.Rotate(c); err != nil {
			return nil, refuse(err)
		}
		return status(ctx, nil)
	})
	recipients := func(ctx context.Context, f func(*seal.Keyring) (any, error)) (*sealOut, error) {
		c, _ := change(ctx, "")
		if err := a.vault.Recipients(ctx, c, f); err != nil {
			return nil, refuseRecipients(err)
		}
		return status(ctx, nil)
	}
	route(a, "seal-add", func(ctx context.Context, in *sealAddIn) (*sealOut, error) {
		r, err := recipientOf(&in.Body)
		if err != nil {
			return nil, fail(http.StatusUnprocessableEntity, api.CodeInvalid, err.Error(), "send an age or SSH public key, or a passphrase")
		}
		return recipients(ctx, func(k *seal.Keyring) (any, error) {
			return map[string]any{"added": r.String(), "only": in.Body.Only}, k.Add(r, in.Body.Only)
		})
	})
	route(a, "seal-remove", func(ctx context.Context, in *sealRemoveIn) (*sealOut, error) {
		return recipients(ctx, func(k *seal.Keyring) (any, error) {
			return map[string]any{"removed": in.Body.Recipient}, k.Remove(in.Body.Recipient)
		})
	})
	route(a, "seal-lock", func(ctx context.Context, _ *struct{}) (*sealOut, error) {
		c, _ := change(ctx, "")
		if err := a.vault.Lock(ctx, c); errors.Is(err, ErrNoLock) {
			return nil, fail(http.StatusConflict, api.CodeConflict, err.Error(), "")
		} else if err != nil {
			return nil, refuse(err)
		}
		return status(ctx, nil)
	})
	route(a, "seal-unlock", func(context.Context, *unlockIn) (*sealOut, error) {
		return nil, fail(http.StatusConflict, api.CodeConflict, "the state is not locked", "")
	})
}

func recipientOf(in *api.SealAdd) (seal.Recipient, error) {
	if in.Passphrase == "" {
		return seal.ParseRecipient(in.Recipient)
	}
	if in.Recipient != "" {
		return seal.Recipient{}, errors.New("a recipient and a passphrase are two")
	}
	id, err := seal.Passphrase(in.Passphrase)
	return id.Recipient, err
}

func refuseRecipients(err error) error {
	switch {
	case errors.Is(err, seal.ErrNotRecipient):
		return fail(http.StatusNotFound, api.CodeNotFound, seal.ErrNotRecipient.Error(), "")
	case errors.Is(err, seal.ErrLast):
		return fail(http.StatusConflict, "last_recipient", seal.ErrLast.Error(), "add another one first")
	case errors.Is(err, seal.ErrMixed):
		return fail(http.StatusUnprocessableEntity, "mixed_recipients", seal.ErrMixed.Error(), "add --only to replace the others, or choose a recipient of their kind")
	}
	return refuse(err)
}

// SealedConfig is what the API of a locked state is made of.
type SealedConfig struct {
	Tokens  map[store.SecretHash]store.Token // those that counted when it was locked
	Vault   Vault
	Logger  *slog.Logger
	Version string
	Since   time.Time
	Now     func() time.Time // by which tokens end
}

// NewSealed makes the API of a locked state: the same table and the same guard, for the
// routes that need nothing of the state, and 503 with the code "sealed" for all else.
func NewSealed(c SealedConfig) (http.Handler, error) {
	a := &API{log: c.Logger, strangers: loglimit.New(c.Logger), vault: c.Vault, version: c.Version, crossOrigin: http.NewCrossOriginProtection()}
	a.auth = &authenticator{now: c.Now, failures: newThrottle(), good: newRecent(), lookup: func(_ context.Context, hash [32]byte) (*Principal, error) {
		t, ok := c.Tokens[hash]
		if !ok || !t.ExpiresAt.IsZero() && !c.Now().Before(t.ExpiresAt) {
			return nil, errNoToken
		}
		return principalOf(&t), nil
	}}
	var rules []rule
	for _, r := range table {
		if r.id == "seal-status" || r.id == "seal-unlock" {
			rules = append(rules, r)
		}
	}
	m := newMux(rules, a.guarded)
	m.HandleFunc("GET "+Prefix+"/seal", func(w http.ResponseWriter, r *http.Request) {
		s := c.Vault.Seal()
		s.Since = &c.Since
		answer(w, s)
	})
	turn := make(chan struct{}, 1) // a passphrase costs a second and 256 MiB to try
	m.HandleFunc("POST "+Prefix+"/seal/unlock", func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		default:
			WriteProblem(w, NewProblem(http.StatusServiceUnavailable, api.CodeTryAgain, "somebody else is unlocking the state", ""))
			return
		}
		by, _ := change(r.Context(), "")
		if p := unlock(r, a.vault, by); p != nil {
			WriteProblem(w, p)
			return
		}
		answer(w, a.vault.Seal())
	})
	if err := m.check(); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := m.Handler(r); pattern == "" {
			WriteSealed(w)
			return
		}
		m.ServeMux.ServeHTTP(w, r)
	}), nil
}

// unlock reads what opens the state and opens it.
func unlock(r *http.Request, v Vault, by store.Change) *api.Problem {
	var in api.Unlock
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return NewProblem(http.StatusBadRequest, api.CodeBadRequest, "the body holds no identity and no passphrase", "")
	}
	var ids []seal.Identity
	var err error
	if in.Identity != "" {
		text := []byte(in.Identity)
		ids, err = seal.ParseIdentities(text)
		clear(text)
	}
	if in.Passphrase != "" && err == nil {
		var id seal.Identity
		id, err = seal.Passphrase(in.Passphrase)
		ids = append(ids, id)
	}
	if err != nil || len(ids) == 0 {
		return NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, "the body holds no identity that can be read", "send the text of an identity file, or a passphrase")
	}
	switch err := v.Unlock(r.Context(), by, ids); {
	case errors.Is(err, seal.ErrWrongIdentity):
		return NewProblem(http.StatusForbidden, api.CodeWrongKey, "this identity does not open the state", "")
	case err != nil:
		var p *problem
		if errors.As(refuse(err), &p) {
			return &p.Problem
		}
		return NewProblem(http.StatusServiceUnavailable, api.CodeTryAgain, "the state could not be opened; the log says why", "")
	}
	return nil
}

// WriteSealed answers for a locked state.
func WriteSealed(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "30")
	WriteProblem(w, NewProblem(http.StatusServiceUnavailable, api.CodeSealed, sealedText, sealedHint))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
}

// principalOf is who a token stands for.
func principalOf(t *store.Token) *Principal {
	who := &Principal{Name: t.Name, until: t.ExpiresAt}
	if who.Name == "" {
		who.Name = t.ID
	}
	for _, s := range t.Scopes {
		who.Scopes = append(who.Scopes, Scope(s))
	}
	return who
}
