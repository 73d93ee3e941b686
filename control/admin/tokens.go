package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	tokenRef struct {
		Token string `path:"token" maxLength:"128" doc:"ID or name"`
		Tried
	}
	tokenList   struct{ Body api.Page[api.Token] }
	tokenCreate struct {
		Tried
		Body api.TokenCreate
	}
	tokenMade struct {
		Status int
		Body   either[api.TokenCreated]
	}
)

// Tokens are made, listed and revoked with the scope that holds every other: whoever may
// make one could give it any.
func (a *API) routeTokens() {
	route(a, "token-list", func(ctx context.Context, in *Paging) (*tokenList, error) {
		all, err := a.store.Tokens(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		return &tokenList{page(all, *in, tokenCursor, tokenView)}, nil
	})
	route(a, "token-create", a.tokenCreate)
	route(a, "token-revoke", a.tokenRevoke)
}

func (a *API) tokenCreate(ctx context.Context, in *tokenCreate) (*tokenMade, error) {
	b := &in.Body
	if bad := checkToken(b, a.store.Now()); len(bad) > 0 {
		return nil, invalid(bad...)
	}
	secret := NewToken()
	p := store.TokenParams{Name: b.Name, Scopes: b.Scopes, Secret: secret.Hash()}
	if b.ExpiresAt != nil {
		p.ExpiresAt = *b.ExpiresAt
	}
	var t store.Token
	o, err := in.order(ctx, a, func(ctx context.Context, c store.Change) (wire.Revision, error) {
		all, err := a.store.Tokens(ctx)
		if err != nil {
			return 0, err
		}
		// The activity log names who did something by this.
		if slices.ContainsFunc(all, func(t store.Token) bool { return t.Name == b.Name }) {
			return 0, fail(http.StatusConflict, api.CodeConflict, fmt.Sprintf("there is a token %q already", b.Name), "choose another name, or revoke that one first")
		}
		t, err = a.store.CreateToken(ctx, c, p)
		return 0, err
	})
	switch {
	case err != nil:
		return nil, err
	case o.Impact != nil:
		return &tokenMade{http.StatusOK, either[api.TokenCreated]{impact: o.Impact}}, nil
	}
	return &tokenMade{http.StatusCreated, either[api.TokenCreated]{done: api.TokenCreated{Token: tokenView(&t), Secret: string(secret)}}}, nil
}

// checkToken returns every mistake of a request for a token.
func checkToken(b *api.TokenCreate, now time.Time) (bad []wire.Problem) {
	add := func(path, format string, args ...any) {
		bad = append(bad, wire.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	if b.Name == "" {
		add("name", "want 1 to %d bytes on one line", wire.MaxNameLen)
	}
	bad = append(bad, policy.CheckText("name", b.Name, wire.MaxNameLen, false)...)
	if len(b.Scopes) == 0 {
		add("scopes", "a token needs one: %v", Scopes())
	}
	for i, s := range b.Scopes {
		if !slices.Contains(Scopes(), Scope(s)) {
			add(fmt.Sprintf("scopes[%d]", i), "%.40q: want one of %v", s, Scopes())
		} else if slices.Contains(b.Scopes[:i], s) {
			add(fmt.Sprintf("scopes[%d]", i), "%q is given twice", s)
		}
	}
	return append(bad, checkEnd(b.ExpiresAt, nil, now)...)
}

func (a *API) tokenRevoke(ctx context.Context, in *tokenRef) (*outcome, error) {
	return asOutcome(in.order(ctx, a, func(ctx context.Context, c store.Change) (wire.Revision, error) {
		t, err := a.store.FindToken(ctx, in.Token)
		if err != nil {
			return 0, err
		}
		all, err := a.store.Tokens(ctx)
		if err != nil {
			return 0, err
		}
		if t.Allows(string(All)) && !slices.ContainsFunc(all, func(o store.Token) bool {
			return o.ID != t.ID && o.Allows(string(All)) && !over(o.ExpiresAt, c.At)
		}) {
			return 0, fail(http.StatusConflict, api.CodeConflict, "this is the last token that may do everything", "make another with the scope admin first")
		}
		return 0, a.store.RevokeToken(ctx, c, t.ID)
	}))
}

func tokenCursor(t *store.Token) string {
	return fmt.Sprintf("%020d-%s", t.CreatedAt.UnixNano(), t.ID)
}

func tokenView(t *store.Token) api.Token {
	return api.Token{ID: t.ID, Name: t.Name, Scopes: t.Scopes, CreatedAt: t.CreatedAt, ExpiresAt: orNil(t.ExpiresAt)}
}
