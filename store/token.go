package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"enclave/wire"
)

// Token is a token for the API, without its secret.
type Token struct {
	ID        string
	Name      string
	Scopes    []string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}

// Allows reports whether the token has a scope.
func (t *Token) Allows(scope string) bool { return slices.Contains(t.Scopes, scope) }

// TokenParams make a token.
type TokenParams struct {
	Name      string
	Scopes    []string
	ExpiresAt time.Time
	Secret    SecretHash
}

// ErrTokenExpired is returned for a token whose time is over.
var ErrTokenExpired = errors.New("token has expired")

// maxScopes is how many scopes one token may have.
const maxScopes = 32

// CreateToken makes a token.
func (s *Store) CreateToken(ctx context.Context, c Change, p TokenParams) (Token, error) {
	t := Token{ID: wire.NewID(keyIDLen), Name: p.Name, Scopes: p.Scopes, CreatedAt: c.At.UTC(), ExpiresAt: p.ExpiresAt}
	switch {
	case len(t.Name) > wire.MaxNameLen:
		return Token{}, fmt.Errorf("create token: name: %d bytes, at most %d", len(t.Name), wire.MaxNameLen)
	case len(t.Scopes) == 0 || len(t.Scopes) > maxScopes:
		return Token{}, fmt.Errorf("create token: %d scopes, want 1 to %d", len(t.Scopes), maxScopes)
	case !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(c.At):
		return Token{}, fmt.Errorf("create token: %w", conflict("expiry %s is in the past", t.ExpiresAt.Format(time.RFC3339)))
	case p.Secret == SecretHash{}:
		return Token{}, errors.New("create token: it has no secret")
	}
	_, err := s.change(ctx, "create token", c, func(w *writing) error {
		scopes, err := toJSON(t.Scopes)
		if err != nil {
			return err
		}
		_, err = w.ExecContext(ctx, "INSERT INTO api_tokens VALUES (?, ?, ?, ?, ?, ?, ?)", w.org, t.ID, t.Name, p.Secret[:], scopes,
			c.At.UnixNano(), instant(t.ExpiresAt))
		if err != nil {
			return err
		}
		return w.record(ctx, "token.create", "token:"+t.ID, t.detail())
	})
	return t, err
}

func (t *Token) detail() map[string]any {
	d := map[string]any{"name": t.Name, "scopes": t.Scopes}
	if !t.ExpiresAt.IsZero() {
		d["expires_at"] = t.ExpiresAt
	}
	return d
}

// FindToken returns the token with this ID or, when there is none, the only one with this
// name.
func (s *Store) FindToken(ctx context.Context, idOrName string) (t Token, err error) {
	err = s.view(ctx, "find token", func(r reader, org wire.OrgID) error {
		id, err := find(ctx, r, org, "token", "api_tokens", idOrName)
		if err == nil {
			t, err = scanToken(r.QueryRowContext(ctx, tokenColumns+"AND id = ?", org, id).Scan)
		}
		return err
	})
	return t, err
}

// Token returns the token with this secret. It is ErrNotFound for an unknown or
// revoked one and ErrTokenExpired for one whose time is over at the instant at.
func (s *Store) Token(ctx context.Context, secret SecretHash, at time.Time) (t Token, err error) {
	err = s.view(ctx, "read token", func(r reader, org wire.OrgID) error {
		t, err = scanToken(r.QueryRowContext(ctx, tokenColumns+"AND secret_hash = ?", org, secret[:]).Scan)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("token", "")
		case err == nil && !t.ExpiresAt.IsZero() && !at.Before(t.ExpiresAt):
			return ErrTokenExpired
		}
		return err
	})
	if err != nil {
		return Token{}, err
	}
	return t, nil
}

// Tokens returns all tokens, oldest first.
func (s *Store) Tokens(ctx context.Context) (list []Token, err error) {
	err = s.view(ctx, "list tokens", func(r reader, org wire.OrgID) error {
		return rows(ctx, r, tokenColumns+"ORDER BY created_at, id", []any{org}, func(scan func(...any) error) error {
			t, err := scanToken(scan)
			list = append(list, t)
			return err
		})
	})
	return list, err
}

// TokensBySecret returns all tokens by the hash of their secret.
func (s *Store) TokensBySecret(ctx context.Context) (map[SecretHash]Token, error) {
	all := make(map[SecretHash]Token)
	err := s.view(ctx, "list tokens", func(r reader, org wire.OrgID) error {
		return rows(ctx, r, "SELECT secret_hash, id, name, scopes, created_at, expires_at FROM api_tokens WHERE org_id = ?", []any{org}, func(scan func(...any) error) error {
			var hash [32]byte
			t, err := scanToken(func(to ...any) error { return scan(append([]any{keyCol{&hash}}, to...)...) })
			all[hash] = t
			return err
		})
	})
	return all, err
}

const tokenColumns = "SELECT id, name, scopes, created_at, expires_at FROM api_tokens WHERE org_id = ? "

func scanToken(scan func(...any) error) (t Token, err error) {
	err = scan(&t.ID, &t.Name, jsonCol{&t.Scopes}, instantCol{&t.CreatedAt}, instantCol{&t.ExpiresAt})
	return t, err
}

// RevokeToken ends a token at once.
func (s *Store) RevokeToken(ctx context.Context, c Change, id string) error {
	_, err := s.change(ctx, "revoke token", c, func(w *writing) error {
		if err := w.exec(ctx, notFound("token", id), "DELETE FROM api_tokens WHERE org_id = ? AND id = ?", w.org, id); err != nil {
			return err
		}
		return w.record(ctx, "token.revoke", "token:"+id, nil)
	})
	return err
}
